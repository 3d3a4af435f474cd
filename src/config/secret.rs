//! A secret: itself, or the file that holds it.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// More than any password, key or chain of certificates; a device that never ends is not read to its end.
const LONGEST: u64 = 1 << 20;

/// What was given. The file is read only if no higher layer says something else.
#[derive(Debug, Clone)]
pub(super) enum Secret {
    /// The secret itself.
    Text(SecretString),
    /// The file that holds it.
    File(PathBuf),
}

impl Secret {
    /// # Errors
    /// Says what is wrong with the file; nothing of what is in it.
    pub(super) fn read(self) -> Result<SecretString, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::File(path) => read(&path).map(SecretString::from),
        }
    }
}

/// The text of the file without its last line break, which editors add.
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
            .map_err(|fault| fault.replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_break() {
        assert_eq!(of(b"HUNTER2"), Ok("HUNTER2".into()));
        assert_eq!(of(b"HUNTER2\n"), Ok("HUNTER2".into()));
        assert_eq!(of(b" a\nb \r\n"), Ok(" a\nb ".into()));
    }

    #[test]
    fn faults_say_what_is_wrong_and_nothing_of_the_content() {
        assert_eq!(
            of(b"\n"),
            Err("cannot be read from FILE: it is empty".into())
        );
        assert_eq!(
            of(b"HUNTER2\xff"),
            Err("cannot be read from FILE: it is not UTF-8 text".into())
        );
        assert_eq!(
            of(&vec![b'x'; (1 << 20) + 1]),
            Err("cannot be read from FILE: it is larger than 1 MiB".into())
        );
        let fault = Secret::File("/nowhere/secret".into())
            .read()
            .expect_err("it is not there");
        assert!(
            fault.starts_with("cannot be read from /nowhere/secret: No such file"),
            "{fault}"
        );
    }
}
