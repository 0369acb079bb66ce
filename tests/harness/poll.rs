//! Makes a veth deliver at once what XDP transmits to it.
//!
//! A frame that a program sends back with XDP_TX is put into the ring of the veth's peer, but the
//! kernel wakes the peer only if it runs an XDP program itself (`veth_xdp_flush` in
//! drivers/net/veth.c; for redirected frames NAPI alone is enough). Without one, an answer waits
//! there until some other frame comes. A network card has no such rule.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};

use crate::namespace::Namespace;

/// The object that `lbt-bench` times with also holds a program that passes everything.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_BENCH_OBJECT"));
const PASSES_EVERYTHING: &str = "lb_bench_nothing";

/// Loaded once for each process.
static LOADED: Mutex<Option<Ebpf>> = Mutex::new(None);

/// The program on one device; it goes when this is dropped.
#[derive(Debug)]
pub struct Polling {
    _link: XdpLink,
}

impl Polling {
    /// Puts a program that passes everything on `device`, the peer of one that runs XDP.
    ///
    /// # Errors
    /// If the kernel refuses the program, or the device runs another one.
    pub fn start(namespace: &Namespace, device: &str) -> Result<Polling> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let ebpf = match loaded.as_mut() {
            Some(ebpf) => ebpf,
            None => loaded.insert(load()?),
        };
        let program = program(ebpf)?;
        let link = namespace
            .run(|| program.attach(device, XdpMode::Driver))
            .with_context(|| format!("attach XDP to {device} in {}", namespace.name()))?;
        Ok(Polling {
            _link: program.take_link(link)?,
        })
    }
}

fn load() -> Result<Ebpf> {
    ensure!(
        !OBJECT.is_empty(),
        "built with LB_SKIP_BPF=1: there is no program to attach"
    );
    let mut ebpf = Ebpf::load(OBJECT).context("load lb-bench")?;
    program(&mut ebpf)?.load()?;
    Ok(ebpf)
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut(PASSES_EVERYTHING);
    Ok(program.context("no such program")?.try_into()?)
}
