//! Attaching the program to interfaces, through links that outlive the agent.

use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::{Datapath, DatapathError};

/// How the program should be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver where it can, else in the kernel's generic path.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic path.
    Generic,
}

/// What attaching did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// The link of an earlier agent was found, and its program replaced without a gap. It keeps
    /// the mode in which it was made.
    Updated,
    /// Attached in the driver.
    Native,
    /// Attached in the kernel's generic path.
    Generic,
}

/// Why the program could not be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another program is there.
    #[error(
        "{interface}: another XDP program is attached; detach it first (ip link set dev \
         {interface} xdp off; lb detach --pin PATH if it is an lb with another [agent].pin)"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The driver cannot do it.
    #[error(
        "{interface}: its driver does not run XDP programs, or not with this MTU; set xdp_mode = \
         \"generic\", or lower the MTU"
    )]
    NotNative {
        /// The interface.
        interface: String,
    },
    /// The kernel has no links for XDP.
    #[error("{interface}: this kernel has no bpf_link for XDP; lb wants Linux 5.18 or newer")]
    NoLink {
        /// The interface.
        interface: String,
    },
    /// Anything else.
    #[error("{interface}: cannot attach the XDP program: {reason}")]
    Other {
        /// The interface.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// The program is not there to be attached.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

impl Datapath {
    /// Attaches the program to an interface, or puts it in the place of an earlier agent's there.
    ///
    /// # Errors
    /// [`AttachError`]; nothing changed then.
    pub fn attach(
        &mut self,
        interface: &str,
        interface_index: u32,
        mode: AttachMode,
    ) -> Result<Attachment, AttachError> {
        let pin = self.pins.link(interface);
        let program = self.program()?;
        if pin.exists() {
            match update(program, &pin) {
                Ok(()) => return Ok(Attachment::Updated),
                // The interface was removed and made again: its old link is a husk.
                Err(error) if is_husk(error.as_ref()) => {}
                // Anything else must not take a program that runs off its interface.
                Err(error) => return Err(other(interface, error.as_ref())),
            }
            std::fs::remove_file(&pin).map_err(|error| other(interface, &error))?;
        }
        let (link, attachment) = match mode {
            AttachMode::Native => (
                new_link(program, interface, interface_index, XdpMode::Driver)?,
                Attachment::Native,
            ),
            AttachMode::Generic => (
                new_link(program, interface, interface_index, XdpMode::Skb)?,
                Attachment::Generic,
            ),
            AttachMode::Auto => {
                match new_link(program, interface, interface_index, XdpMode::Driver) {
                    Ok(link) => (link, Attachment::Native),
                    Err(AttachError::NotNative { .. }) => (
                        new_link(program, interface, interface_index, XdpMode::Skb)?,
                        Attachment::Generic,
                    ),
                    Err(error) => return Err(error),
                }
            }
        };
        link.pin(&pin).map_err(|error| other(interface, &error))?;
        Ok(attachment)
    }

    /// Takes the program off an interface. Nothing happens if it is not there.
    ///
    /// # Errors
    /// If the link's pin cannot be removed.
    pub fn detach(&mut self, interface: &str) -> io::Result<()> {
        match std::fs::remove_file(self.pins.link(interface)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// Swaps the program behind a pinned link. The link stays pinned: what is dropped here is only
/// this process's descriptor of it.
fn update(program: &mut Xdp, pin: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let link: FdLink = PinnedLink::from_pin(pin)?.into();
    let link = XdpLink::try_from(link)?;
    let id = program.attach_to_link(link)?;
    drop(program.take_link(id)?);
    Ok(())
}

/// Whether a link was refused because its interface is gone (`ENOLINK`, Linux 5.9).
fn is_husk(error: &(dyn std::error::Error + 'static)) -> bool {
    super::causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.raw_os_error() == Some(libc::ENOLINK))
}

fn new_link(
    program: &mut Xdp,
    interface: &str,
    interface_index: u32,
    mode: XdpMode,
) -> Result<FdLink, AttachError> {
    let id = program
        .attach_to_if_index(interface_index, mode)
        .map_err(|error| refused(interface, &error))?;
    let link = program
        .take_link(id)
        .map_err(|error| other(interface, &error))?;
    FdLink::try_from(link).map_err(|_| AttachError::NoLink {
        interface: interface.into(),
    })
}

fn refused(interface: &str, error: &ProgramError) -> AttachError {
    let interface = interface.to_owned();
    let ProgramError::SyscallError(syscall) = error else {
        return AttachError::Other {
            interface,
            reason: chain(error),
        };
    };
    match syscall.io_error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy { interface },
        // Drivers answer an MTU that is too large for XDP with EINVAL or ERANGE.
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOSPC) => {
            AttachError::NotNative { interface }
        }
        _ => AttachError::Other {
            interface,
            reason: chain(error),
        },
    }
}

fn other(interface: &str, error: &(dyn std::error::Error + 'static)) -> AttachError {
    AttachError::Other {
        interface: interface.into(),
        reason: chain(error),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    super::causes(error)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
