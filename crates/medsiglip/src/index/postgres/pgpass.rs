//! The password file of PostgreSQL's programs: lines of `HOST:PORT:DATABASE:USER:PASSWORD`, `*` for any.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// Bytes of the file that are read.
const MOST: u64 = 1 << 20;

/// The password that the file of `PGPASSFILE`, else `~/.pgpass`, has for `[host, port, database, user]`. As with PostgreSQL's own
/// programs, a file that others may read does not count.
pub(super) fn password(asked: [&str; 4]) -> Option<String> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| Some(std::env::home_dir()?.join(".pgpass")))?;
    let about = fs::metadata(&path).ok()?;
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&about) & 0o077 != 0 {
        return None;
    }
    let mut text = String::new();
    let file = File::open(&path).ok().filter(|_| about.is_file())?;
    file.take(MOST).read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| of_line(line, asked))
}

fn of_line(line: &str, asked: [&str; 4]) -> Option<String> {
    let mut signs = line.chars();
    for asked in asked {
        let (mut field, mut is_any) = (String::new(), true);
        loop {
            match signs.next()? {
                ':' => break,
                '\\' => {
                    is_any = false;
                    field.push(signs.next()?);
                }
                sign => field.push(sign),
            }
        }
        if field != asked && !(is_any && field == "*") {
            return None;
        }
    }
    let mut password = String::new();
    while let Some(sign) = signs.next() {
        match sign {
            // Later versions may add fields.
            ':' => break,
            '\\' => password.push(signs.next()?),
            sign => password.push(sign),
        }
    }
    (!line.starts_with('#')).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_postgresql_reads_them() {
        let asked = ["db.example", "5432", "x", "ann:a"];
        for (line, expected) in [
            ("db.example:5432:x:ann\\:a:secret", Some("secret")),
            ("*:*:*:*:a\\:b\\\\c:more", Some("a:b\\c")),
            ("db.example:*:x:*:", Some("")),
            ("db.example:5433:x:ann\\:a:secret", None),
            ("\\*:5432:x:ann\\:a:secret", None),
            ("#*:*:*:*:secret", None),
            ("*:*:*:*", None),
            ("db.example:5432:x:ann\\", None),
            ("", None),
        ] {
            assert_eq!(of_line(line, asked).as_deref(), expected, "{line}");
        }
    }
}
