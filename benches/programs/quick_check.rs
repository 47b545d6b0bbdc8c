//! `PRAGMA quick_check` of the databases that it is given, and nothing else: what a scan costs at least.

fn main() -> rusqlite::Result<()> {
    for path in std::env::args().skip(1) {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(&path, flags)?;
        let text: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
        println!("{path}: {text}");
    }
    Ok(())
}
