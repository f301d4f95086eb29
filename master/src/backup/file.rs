//! The form of a backup's file: a head that anybody can read, and the backup itself, sealed or not.

use super::{Backup, BackupError, octets};
use bramble_core::model::{Sealed, Time};
use bramble_protocol::codec;
use bramble_protocol::net::SealingKey;
use bramble_protocol::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;

/// Version of the file's form; a reader knows this one and all before.
pub(super) const FORMAT: u32 = 1;
/// Tells a backup from any other file.
const MAGIC: &str = "bramble backup";
/// Largest file that is read.
pub const BACKUP_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Rounds of PBKDF2: a few seconds of a small board, for each guess at the passphrase.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// Rounds that a file may ask for: one that was made up must not keep a reader busy for ever.
const ROUNDS_MAX: u32 = 20_000_000;

/// What a file says of itself without being opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub cluster_id: String,
    pub made_at: Time,
    pub index: u64,
    pub bramble: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    magic: String,
    format: u32,
    header: Header,
    #[serde(default)]
    sealing: Option<Sealing>,
    #[serde(with = "octets")]
    sha256: Vec<u8>,
    #[serde(with = "octets")]
    body: Vec<u8>,
}

/// How the key follows from the passphrase.
#[derive(Serialize, Deserialize)]
struct Sealing {
    #[serde(with = "octets")]
    salt: Vec<u8>,
    rounds: u32,
}

impl File {
    fn new(header: Header, sealing: Option<Sealing>, body: Vec<u8>) -> Self {
        let sha256 = Sha256::digest(&body).to_vec();
        Self { magic: MAGIC.into(), format: FORMAT, header, sealing, sha256, body }
    }

    fn read(bytes: &[u8]) -> Result<Self, BackupError> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Head {
            magic: String,
            format: u32,
        }
        let head: Head = codec::from_bytes(bytes).map_err(|_| BackupError::NotABackup)?;
        if head.magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        if head.format > FORMAT {
            return Err(BackupError::Format(head.format));
        }
        let file: File = codec::from_bytes(bytes).map_err(BackupError::Decode)?;
        if Sha256::digest(&file.body).as_slice() != file.sha256 {
            return Err(BackupError::Damaged);
        }
        Ok(file)
    }

    fn encode(&self) -> Result<Vec<u8>, BackupError> {
        codec::to_bytes(self).map_err(BackupError::Encode)
    }
}

/// What a sealed body belongs to: put under another head it does not open.
fn context(header: &Header) -> [String; 5] {
    let Header { cluster_id, made_at, index, bramble } = header;
    [MAGIC.into(), cluster_id.clone(), made_at.0.to_string(), index.to_string(), bramble.clone()]
}

/// Write an unsealed file.
pub(super) fn write(backup: &Backup) -> Result<Vec<u8>, BackupError> {
    let header = Header {
        cluster_id: backup.cluster_id.clone(),
        made_at: backup.made_at,
        index: backup.index,
        bramble: backup.bramble.clone(),
    };
    let body = codec::to_bytes(backup).map_err(BackupError::Encode)?;
    File::new(header, None, body).encode()
}

/// Seal an unsealed file with a passphrase. Takes seconds of work.
///
/// # Errors
/// The file is none, or sealed already.
pub fn seal(file: &[u8], passphrase: &Secret) -> Result<Vec<u8>, BackupError> {
    seal_in_rounds(file, passphrase, ROUNDS)
}

fn seal_in_rounds(
    file: &[u8],
    passphrase: &Secret,
    rounds: NonZeroU32,
) -> Result<Vec<u8>, BackupError> {
    let file = File::read(file)?;
    if file.sealing.is_some() {
        return Err(BackupError::Sealed);
    }
    let salt = SealingKey::draw().map_err(BackupError::Seal)?.expose().to_vec();
    let key = SealingKey::of_passphrase(passphrase, &salt, rounds);
    let context = context(&file.header);
    let parts = context.each_ref().map(String::as_str);
    let Sealed(body) = key.seal(&parts, &file.body).map_err(BackupError::Seal)?;
    File::new(file.header, Some(Sealing { salt, rounds: rounds.get() }), body).encode()
}

/// Whether a file needs a passphrase to be opened.
///
/// # Errors
/// It is no backup, damaged, or of a later version.
pub fn is_sealed(file: &[u8]) -> Result<(Header, bool), BackupError> {
    File::read(file).map(|file| (file.header, file.sealing.is_some()))
}

/// Read a backup; with the passphrase, if it is sealed. Takes seconds of work then.
///
/// # Errors
/// It is no backup, damaged, of a later version, or sealed with another passphrase.
pub fn open(file: &[u8], passphrase: Option<&Secret>) -> Result<Backup, BackupError> {
    let file = File::read(file)?;
    let Some(sealing) = file.sealing else {
        return codec::from_bytes(&file.body).map_err(BackupError::Decode);
    };
    let passphrase = passphrase.ok_or(BackupError::Sealed)?;
    let rounds = NonZeroU32::new(sealing.rounds).filter(|rounds| rounds.get() <= ROUNDS_MAX);
    let key =
        SealingKey::of_passphrase(passphrase, &sealing.salt, rounds.ok_or(BackupError::Damaged)?);
    let context = context(&file.header);
    let parts = context.each_ref().map(String::as_str);
    let body = key.open(&parts, &Sealed(file.body)).map_err(BackupError::Passphrase)?;
    codec::from_bytes(body.expose()).map_err(BackupError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        let secret = |text: &str| Some(Secret::new(text.as_bytes().to_vec()));
        Backup {
            cluster_id: "c1".into(),
            made_at: Time(7),
            index: 9,
            bramble: "0.1.0".into(),
            snapshot: vec![1, 2, 3],
            authority_key: secret("authority"),
            authority_certificate: vec![4],
            join_token: secret("token"),
            data_key: secret("open sesame"),
        }
    }

    fn word(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    const FEW: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

    fn holds(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn sealed_files_tell_nothing_and_open_with_their_passphrase_only() {
        let plain = write(&backup()).expect("writes");
        assert!(holds(&plain, b"open sesame") && !is_sealed(&plain).expect("reads").1);
        let sealed = seal_in_rounds(&plain, &word("p"), FEW).expect("seals");
        for part in [&b"open sesame"[..], b"authority", b"token"] {
            assert!(!holds(&sealed, part), "{part:?}");
        }
        let (header, is_sealed) = is_sealed(&sealed).expect("reads");
        assert_eq!((header.cluster_id.as_str(), header.index, is_sealed), ("c1", 9, true));
        let opened = open(&sealed, Some(&word("p"))).expect("opens");
        assert_eq!(opened.data_key.expect("there").expose(), b"open sesame");
        assert_eq!(opened.snapshot, [1, 2, 3]);
        assert!(matches!(open(&sealed, Some(&word("q"))), Err(BackupError::Passphrase(_))));
        assert!(matches!(open(&sealed, None), Err(BackupError::Sealed)));
        assert!(matches!(seal(&sealed, &word("p")), Err(BackupError::Sealed)));
        assert!(open(&plain, None).is_ok());
    }

    #[test]
    fn a_head_of_another_backup_does_not_fit() {
        let sealed = seal_in_rounds(&write(&backup()).expect("writes"), &word("p"), FEW);
        let mut file = File::read(&sealed.expect("seals")).expect("reads");
        file.header.index += 1;
        let bent = file.encode().expect("encodes");
        assert!(matches!(open(&bent, Some(&word("p"))), Err(BackupError::Passphrase(_))));
    }

    #[test]
    fn what_is_no_backup_or_damaged_or_later_is_named() {
        let plain = write(&backup()).expect("writes");
        assert!(matches!(open(b"junk", None), Err(BackupError::NotABackup)));
        assert!(matches!(open(&[], None), Err(BackupError::NotABackup)));
        assert!(matches!(open(&plain[..plain.len() / 2], None), Err(BackupError::NotABackup)));
        let mut file = File::read(&plain).expect("reads");
        file.body[3] ^= 1;
        let damaged = file.encode().expect("encodes");
        assert!(matches!(open(&damaged, None), Err(BackupError::Damaged)));
        let mut file = File::read(&plain).expect("reads");
        file.format = 2;
        assert!(matches!(
            open(&file.encode().expect("encodes"), None),
            Err(BackupError::Format(2))
        ));
    }

    /// A backup written by this version must open in every later one.
    #[test]
    fn the_file_is_golden() {
        let golden = include_bytes!("fixtures/backup-v1.cbor");
        let opened = open(golden, Some(&word("golden"))).expect("opens");
        let expected = backup();
        assert_eq!(opened.snapshot, expected.snapshot);
        assert_eq!(opened.data_key, expected.data_key);
        assert_eq!(opened.authority_key, expected.authority_key);
        assert_eq!(opened.authority_certificate, expected.authority_certificate);
        assert_eq!(opened.join_token, expected.join_token);
        assert_eq!((opened.cluster_id, opened.made_at, opened.index), ("c1".into(), Time(7), 9));
    }
}
