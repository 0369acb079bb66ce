//! Functions of PostgreSQL's own that are not volatile, or volatile and harmless in PostgreSQL's eyes,
//! and yet not for a standby: they tell of the server, of its files, or of this one session.

/// Beginnings of names: statistics, settings, files, positions, sessions, replication.
const BEGINNINGS: [&str; 38] = [
    "binary_upgrade_",
    "cursor_to_xml",
    "database_to_xml",
    "inet_client_",
    "inet_server_",
    "pg_available_",
    "pg_backend_",
    "pg_backup_",
    "pg_blocking_pids",
    "pg_conf",
    "pg_control_",
    "pg_create_",
    "pg_current_",
    "pg_cursor",
    "pg_export_snapshot",
    "pg_file",
    "pg_get_backend_",
    "pg_get_replication_slots",
    "pg_get_shmem_",
    "pg_get_wal_",
    "pg_hba_",
    "pg_ident_",
    "pg_is_in_",
    "pg_is_wal_",
    "pg_last_",
    "pg_listening_",
    "pg_lock",
    "pg_ls_",
    "pg_my_temp_schema",
    "pg_postmaster_",
    "pg_prepared_",
    "pg_read_",
    "pg_replication_",
    "pg_safe_snapshot_",
    "pg_show_",
    "pg_stat_",
    "pg_timezone_",
    "pg_wal_replay_",
];

/// Whole names, sorted.
const NAMES: [&str; 22] = [
    "current_setting",
    "mxid_age",
    "pg_event_trigger_ddl_commands",
    "pg_is_other_temp_schema",
    "pg_isolation_test_session_is_blocked",
    "pg_jit_available",
    "pg_notification_queue_usage",
    "pg_promote",
    "pg_sleep",
    "pg_trigger_depth",
    "pg_tablespace_databases",
    "pg_walfile_name",
    "pg_walfile_name_offset",
    "pg_xact_status",
    "query_to_xml",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "version",
];

/// Whether a standby answers otherwise, or reads what names in a text stand for.
pub(super) fn is_local(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    BEGINNINGS.iter().any(|start| name.starts_with(start))
        || NAMES.contains(&name)
        || name.starts_with("txid_")
}

/// Whether the session keeps something: a setting, or a lock that a commit does not release. Locks
/// of a transaction end with it.
pub(super) fn leaves_something(name: &[u8]) -> bool {
    name == b"set_config"
        || [b"pg_advisory_lock".as_slice(), b"pg_try_advisory_lock"]
            .iter()
            .any(|start| name.starts_with(start))
}
