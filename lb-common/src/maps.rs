//! Names and sizes of the maps, and the version of their layout.

/// Version of everything in this crate that both sides read. It is part of the path below which
/// maps and links are pinned: an agent never picks up maps of another layout.
pub const ABI_VERSION: u32 = 2;

/// Most pools.
pub const POOLS_MAX: u32 = 64;
/// Most services, the one entry per VIP included.
pub const SERVICES_MAX: u32 = 8192;
/// Most backends over all pools.
pub const BACKENDS_MAX: u32 = 8192;
/// Most interfaces that packets leave by.
pub const PORTS_MAX: u32 = 64;
/// Entries of `FLOWS`, unless the agent says otherwise when it creates the maps.
pub const FLOWS_DEFAULT: u32 = 1 << 20;
/// Entries of `FLOWS_NEW`: a quarter of those of `FLOWS`. They turn over; see flows in
/// ARCHITECTURE.md.
pub const FLOWS_NEW_DEFAULT: u32 = FLOWS_DEFAULT / 4;
/// Bytes of the ring `EVENTS`: a power of two and a multiple of the page size.
pub const EVENTS_BYTES: u32 = 1 << 18;
/// Slots of a table, unless the pool says otherwise: a prime.
pub const SLOTS_DEFAULT: u32 = 65_537;

/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: an inner array may have another length than the template,
/// and the agent fills it through a mapping.
pub const TABLE_FLAGS: u32 = 0x1400;
/// `BPF_F_MMAPABLE`.
pub const MMAPABLE: u32 = 0x400;

/// Global of the program that, when the loader sets it to 1, makes it take the time from
/// `CLOCK[1]` in place of the kernel's clock. For tests.
pub const CLOCK_IN_MAP: &str = "CLOCK_IN_MAP";

/// Global of the program: nanoseconds between two ticks of the kernel's timer. Where the loader leaves
/// it 0 the program asks for the time instead of counting ticks.
pub const TICK_NS: &str = "TICK_NS";

/// Name of the XDP program.
pub const PROGRAM: &str = "lb_gateway";

/// Map names, as they stand in the object and below the pin path.
pub mod name {
    /// `ServiceKey` → `Service`.
    pub const SERVICES: &str = "SERVICES";
    /// Hash of a `ServiceKey` → `ServiceCell`.
    pub const SERVICE_CELLS: &str = "SERVICE_CELLS";
    /// Filter over VIP addresses.
    pub const VIPS: &str = "VIPS";
    /// Pool id → `Pool`.
    pub const POOLS: &str = "POOLS";
    /// Pool id → array of slots, twice as long as the table: ladders, then previous owners.
    pub const TABLES: &str = "TABLES";
    /// Backend id → `Backend`; memory-mapped by the agent.
    pub const BACKENDS: &str = "BACKENDS";
    /// Port index → `Port`.
    pub const PORTS: &str = "PORTS";
    /// Port index → device.
    pub const DEVICES: &str = "DEVICES";
    /// One `Settings`.
    pub const SETTINGS: &str = "SETTINGS";
    /// Service counters index → `Traffic`, per CPU.
    pub const SERVICE_TRAFFIC: &str = "SERVICE_TRAFFIC";
    /// Backend id → `Traffic`, per CPU.
    pub const BACKEND_TRAFFIC: &str = "BACKEND_TRAFFIC";
    /// `DropReason` → count, per CPU.
    pub const DROPS: &str = "DROPS";
    /// `Reply` → count, per CPU.
    pub const REPLIES: &str = "REPLIES";
    /// `Pass` → count, per CPU.
    pub const PASSES: &str = "PASSES";
    /// `FlowKey` → `FlowEntry`, flows of unstable slots that are known for longer than a packet.
    pub const FLOWS: &str = "FLOWS";
    /// `FlowKey` → `FlowEntry`, the others; entries push each other out.
    pub const FLOWS_NEW: &str = "FLOWS_NEW";
    /// `FlowCount` → count, per CPU.
    pub const FLOW_COUNTS: &str = "FLOW_COUNTS";
    /// Ring of `Event`.
    pub const EVENTS: &str = "EVENTS";
    /// Backend id → `Suspicion`, per CPU.
    pub const SUSPICIONS: &str = "SUSPICIONS";
    /// Two words of monotonic nanoseconds: the agent's last sign of life; the time, for tests.
    /// Memory-mapped by the agent.
    pub const CLOCK: &str = "CLOCK";

    /// All of them.
    pub const ALL: [&str; 20] = [
        SERVICES,
        SERVICE_CELLS,
        VIPS,
        POOLS,
        TABLES,
        BACKENDS,
        PORTS,
        DEVICES,
        SETTINGS,
        SERVICE_TRAFFIC,
        BACKEND_TRAFFIC,
        DROPS,
        REPLIES,
        PASSES,
        FLOWS,
        FLOWS_NEW,
        FLOW_COUNTS,
        EVENTS,
        SUSPICIONS,
        CLOCK,
    ];
}
