//! A secret, or the file or variable that holds it.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// The longest file in bytes: more than any password, key or chain of certificates, so that an
/// endless device is not read to its end.
const LONGEST: u64 = 1 << 20;

/// A value as it is given. The file is read only if no source of higher precedence gives another
/// value.
#[derive(Debug, Clone)]
pub(crate) enum Secret {
    Text(SecretString),
    File(PathBuf),
    /// The environment variable of this name.
    Variable(String),
}

impl Secret {
    /// An error repeats nothing of the file's content.
    pub(crate) fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => read(path).map(SecretString::from),
            Self::Variable(name) => match std::env::var(name) {
                Ok(text) if !text.is_empty() => Ok(text.into()),
                _ => Err(format!(
                    "cannot be read: the variable {name} is not set, or empty"
                )),
            },
        }
    }
}

/// Reads a file, without the line break at its end that editors add.
fn read(path: &Path) -> Result<String, String> {
    let unreadable = |reason: String| format!("cannot be read from {}: {reason}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(unreadable("it is larger than 1 MiB".into()));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".into()))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    match text.as_str() {
        "" => Err(unreadable("it is empty".into())),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn of(content: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
        std::fs::write(file.path(), content).expect("room for a small file");
        let secret = Secret::File(file.path().to_owned()).read();
        secret
            .map(|secret| secret.expose_secret().to_owned())
            .map_err(|error| error.replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_break_or_a_fault_without_its_content() {
        let fault = |why: &str| Err(format!("cannot be read from FILE: {why}"));
        for (content, expected) in [
            (&b"HUNTER2"[..], Ok("HUNTER2".into())),
            (b"HUNTER2\n", Ok("HUNTER2".into())),
            (b" a\nb \r\n", Ok(" a\nb ".into())),
            (b"\n", fault("it is empty")),
            (b"HUNTER2\xff", fault("it is not UTF-8 text")),
            (&vec![b'x'; (1 << 20) + 1], fault("it is larger than 1 MiB")),
        ] {
            assert_eq!(of(content), expected);
        }
    }
}
