//! Names and sizes of the maps, and the version of their layout.

/// Version of everything in this crate that both sides read. It is part of the path below which
/// maps and links are pinned: an agent never picks up maps of another layout.
pub const ABI_VERSION: u32 = 1;

/// Most pools.
pub const POOLS_MAX: u32 = 64;
/// Most services, the one entry per VIP included.
pub const SERVICES_MAX: u32 = 8192;
/// Most backends over all pools.
pub const BACKENDS_MAX: u32 = 8192;
/// Most interfaces that packets leave by.
pub const PORTS_MAX: u32 = 64;
/// Slots of a table, unless the pool says otherwise: a prime.
pub const SLOTS_DEFAULT: u32 = 65_537;

/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: an inner array may have another length than the template,
/// and the agent fills it through a mapping.
pub const TABLE_FLAGS: u32 = 0x1400;
/// `BPF_F_MMAPABLE`.
pub const MMAPABLE: u32 = 0x400;

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

    /// All of them.
    pub const ALL: [&str; 13] = [
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
    ];
}
