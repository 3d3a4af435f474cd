//! What relays may not leave behind after their end, however they ended.

/// Names, and the query that counts each in the database that it is asked in.
pub(crate) const LEFT: [(&str, &str); 4] = [
    (
        "connection",
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell %'",
    ),
    (
        "advisory lock",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    ),
    (
        "prepared transaction",
        "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()",
    ),
    (
        "temporary table",
        "SELECT count(*) FROM pg_class WHERE relpersistence = 't'",
    ),
];

/// Returns the processes that were given this database: relays, other commands, and the processes
/// that these started.
pub(crate) fn processes_of(database: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let of_database = |process: &std::fs::DirEntry| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let name = format!("/{database}");
        variables.any(|it| it.starts_with(b"DATABASE_URL=") && it.ends_with(name.as_bytes()))
    };
    let words = |process: std::fs::DirEntry| {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        // A zombie has none.
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        (!words.is_empty()).then_some(words)
    };
    processes.filter(of_database).filter_map(words).collect()
}
