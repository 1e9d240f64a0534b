//! Owns how values become text. Knows nothing of databases.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

/// Writes a time in UTC, to the nanosecond, as RFC 3339 wants it.
pub fn time(time: SystemTime) -> String {
    let mut text = String::new();
    // Years behind 9999 have no form.
    match write!(text, "{}", humantime::format_rfc3339_nanos(time)) {
        Ok(()) => text,
        Err(_) => "(no time)".to_owned(),
    }
}

/// The same as JSON; `null` if there is none.
pub fn json_time(at: Option<SystemTime>) -> Value {
    at.map_or(Value::Null, |at| time(at).into())
}

/// Writes bytes with a unit for the eye.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut shift = 10;
    let mut unit = UNITS.first();
    for larger in UNITS.iter().skip(1) {
        if bytes >> shift < 1024 {
            break;
        }
        shift += 10;
        unit = Some(larger);
    }
    let whole = bytes >> shift;
    let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
    format!("{whole}.{tenths} {}", unit.unwrap_or(&""))
}

/// Writes bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('?');
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Writes a text that somebody else has chosen, so that it can do nothing to a terminal and stays
/// one word.
pub fn word(text: &str) -> String {
    let is_plain = |it: char| !it.is_control() && !it.is_whitespace() && it != '"';
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("{text:?}")
}

/// Writes a sentence that somebody else has made, so that it can do nothing to a terminal.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => safe.extend(char.escape_debug()),
            false => safe.push(char),
        }
    }
    safe
}

/// Writes a path as one word for a POSIX shell, whatever is in it. Bytes that a terminal may take
/// for a command are written by the shell itself.
pub fn shell(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |it: &u8| it.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(it);
    if !bytes.is_empty() && bytes.iter().all(is_plain) && !bytes.starts_with(b"-") {
        return path.display().to_string();
    }
    let mut word = String::from("'");
    for part in bytes.utf8_chunks() {
        for it in part.valid().chars() {
            match it {
                '\'' => word.push_str("'\\''"),
                // A substitution would drop it at its end, and it does nothing to a terminal.
                '\n' => word.push(it),
                it if it.is_control() => {
                    let mut bytes = [0; 4];
                    octal(&mut word, it.encode_utf8(&mut bytes).as_bytes());
                }
                it => word.push(it),
            }
        }
        octal(&mut word, part.invalid());
    }
    word.push('\'');
    word
}

/// Ends the quotes, writes these bytes as octal numbers, and begins quotes again.
fn octal(word: &mut String, bytes: &[u8]) {
    for byte in bytes {
        word.push_str(&format!("'\"$(printf '\\{byte:03o}')\"'"));
    }
}

/// Writes a field of comma-separated values.
pub fn csv(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// Writes one JSON value for a person or a program.
pub fn json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Writes a number with the noun that fits it.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1023.9 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn a_shell_reads_every_path_as_it_is() {
        use std::ffi::OsStr;
        assert_eq!(shell(Path::new("/srv/bank.db")), "/srv/bank.db");
        let nasty: [&[u8]; 11] = [
            b"/srv/two words",
            b"/srv/$HOME/`id`/$(id)",
            b"/srv/it's \"quoted\" \\ here!",
            b"/srv/line\nbreak\n",
            b"/srv/\x1b[2J\ttab\r",
            b"/srv/\xff\xfe not UTF-8 \xff",
            "/srv/\u{85}\u{e4}\u{20ac} *?[a]{b,c}~#;&|<>".as_bytes(),
            b"-n",
            b"'",
            b"''\n''",
            b"~",
        ];
        for path in nasty {
            let word = shell(Path::new(OsStr::from_bytes(path)));
            assert!(word.chars().all(|it| !it.is_control() || it == '\n'), "{word:?}");
            let script = format!("printf '%s|' {word} behind");
            let read = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let told = String::from_utf8_lossy(path);
            assert_eq!(read.stdout, [path, b"|behind|"].concat(), "{told} as {word}");
        }
    }

    #[test]
    fn foreign_texts_do_nothing_to_a_terminal() {
        assert_eq!(word("ann"), "ann");
        assert_eq!(word(""), "\"\"");
        assert_eq!(word("a b"), "\"a b\"");
        assert_eq!(word("\u{1b}[2J"), "\"\\u{1b}[2J\"");
        assert_eq!(plain("a \"b\"\u{1b}[2J\n"), "a \"b\"\\u{1b}[2J\\n");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv("a b"), "a b");
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
    }
}
