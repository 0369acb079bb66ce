//! How servers come into being.

use std::fs::{self, OpenOptions, create_dir_all};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use nix::unistd::{User, chown, geteuid};

use super::{PORT, Postgres, READY_MAX, USER, said, tool_as_postgres};
use crate::place::Place;
use crate::run_directory::RunDirectory;

/// Small, quick, and as durable as a test can tell: processes die here, hosts do not.
const SETTINGS: &str = "\
listen_addresses = ''
fsync = off
shared_buffers = 32MB
max_connections = 100
wal_log_hints = on
wal_keep_size = 128MB
autovacuum = off
log_line_prefix = '%m [%p] '
";

impl Postgres {
    pub(super) fn empty(run: &RunDirectory, place: &Place, name: &str) -> Result<Self> {
        let directory = run.join(name);
        create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        // The way there must be open for the user that PostgreSQL runs as.
        for path in directory.ancestors().skip(1).take(2) {
            let mode = fs::metadata(path)?.permissions().mode();
            fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o055))?;
        }
        if geteuid().is_root() {
            let user = User::from_name(USER)?;
            let user = user.with_context(|| format!("there is no user {USER}"))?;
            chown(&directory, Some(user.uid), Some(user.gid))?;
        }
        Ok(Self {
            name: name.to_owned(),
            port: place.port(PORT)?,
            place: place.clone(),
            directory,
            logs: run.logs(),
            process: None,
            disk: None,
        })
    }

    pub(super) fn init(&self, settings: &str) -> Result<()> {
        self.init_with(&[], settings)
    }

    /// With further arguments of `initdb`.
    pub(super) fn init_with(&self, arguments: &[&str], settings: &str) -> Result<()> {
        let mut initdb = tool_as_postgres("initdb")?;
        initdb.arg("-D").arg(self.data());
        initdb.args([
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        initdb.args(arguments);
        said(&mut initdb).with_context(|| format!("make {}", self.name))?;
        if self.place.namespace().is_some() {
            // The hosts of its network, which nobody else is on.
            self.admit("local all all trust\nlocal replication all trust\nhost all all samenet trust\nhost replication all samenet trust")?;
        }
        self.configure(&format!("{SETTINGS}{settings}\n"))
    }

    pub(super) fn copy_of(&self, primary: &Self) -> Result<()> {
        let mut backup = tool_as_postgres("pg_basebackup")?;
        backup.arg("-D").arg(self.data());
        backup.args(["-U", USER, "-X", "stream", "-c", "fast", "--no-sync"]);
        backup.arg("-h").arg(&primary.directory);
        backup.args(["-p", &primary.port.to_string()]);
        said(&mut backup).with_context(|| format!("copy {}", primary.name))?;
        self.follow(primary)
    }

    /// Where standbys find it: its address, or the directory of its Unix socket.
    fn host(&self) -> String {
        match self.place.namespace() {
            Some(_) => self.place.address().to_string(),
            None => self.directory.display().to_string(),
        }
    }

    /// Lets this server be a standby of `primary` from its next start on; if it is one already, from its
    /// next look at its configuration on.
    ///
    /// # Errors
    /// If its configuration cannot be written.
    pub fn follow(&self, primary: &Self) -> Result<()> {
        self.configure(&format!(
            "primary_conninfo = 'host={} port={} user={USER} application_name={}'\n",
            primary.host(),
            primary.port,
            self.name
        ))?;
        fs::write(self.data().join("standby.signal"), "")?;
        Ok(())
    }

    /// Adds lines to `postgresql.conf`; of several lines for one setting the last counts.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data().join("postgresql.conf");
        let mut file = OpenOptions::new().append(true).open(&path)?;
        let listen = match self.place.namespace() {
            Some(_) => format!("listen_addresses = '{}'\n", self.place.address()),
            None => String::new(),
        };
        write!(
            file,
            "unix_socket_directories = '{}'\nport = {}\n{lines}{listen}",
            self.directory.display(),
            self.port
        )
        .with_context(|| format!("write {}", path.display()))
    }

    /// Replaces `pg_hba.conf`: who may connect from where, and how they prove it.
    ///
    /// # Errors
    /// If the file cannot be written, or a running server does not read it.
    pub fn admit(&self, rules: &str) -> Result<()> {
        let path = self.data().join("pg_hba.conf");
        fs::write(&path, format!("{rules}\n"))
            .with_context(|| format!("write {}", path.display()))?;
        if self.process.is_some() {
            self.sql("SELECT pg_reload_conf()")?;
        }
        Ok(())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If it does not: with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let mut command = tool_as_postgres("postgres")?;
        command.arg("-D").arg(self.data());
        let process = self.place.spawn(&self.name, &mut command, &self.logs)?;
        let process = self.process.insert(process);
        let mut probe = super::tool("pg_isready")?;
        probe.arg("-q").arg("-h").arg(&self.directory);
        probe.args(["-p", &self.port.to_string()]);
        process.wait_until("PostgreSQL answers", READY_MAX, || {
            probe.status().is_ok_and(|status| status.success())
        })
    }
}
