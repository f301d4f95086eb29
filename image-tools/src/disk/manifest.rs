//! The list of images that Raspberry Pi Imager reads (`rpi-imager --repo URL`).

use super::configure::whole;
use super::error::{DiskError, Doing, at};
use super::flash::Image;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Models a 64-bit image starts on, in Imager's words. A Pi 5 needs an image with newer firmware.
const MODELS: [&str; 2] = ["pi4-64bit", "pi3-64bit"];
const MODELS_WITH_PI_5: [&str; 3] = ["pi5-64bit", "pi4-64bit", "pi3-64bit"];

/// What is told of the images together.
pub struct About<'a> {
    /// Where they can be fetched; a file's name follows.
    pub url: &'a str,
    pub version: &'a str,
    /// `2026-11-28`.
    pub date: &'a str,
    pub pi_5: bool,
}

/// Make the list of packed or plain images.
///
/// # Errors
/// One cannot be read.
pub fn make(images: &[PathBuf], about: &About<'_>) -> Result<Value, DiskError> {
    let entries: Result<Vec<_>, _> = images.iter().map(|path| entry(path, about)).collect();
    Ok(json!({ "os_list": entries? }))
}

fn entry(path: &Path, about: &About<'_>) -> Result<Value, DiskError> {
    let image = Image::open(path)?;
    let first = image.first()?;
    let plain = digest(&mut image.reader()?).doing(|| image.reading())?;
    whole(&first, plain.0, &path.display().to_string())?;
    let mut file = File::open(path).doing(at("opening", path))?;
    let packed = digest(&mut file).doing(at("reading", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let devices: &[&str] = if about.pi_5 { &MODELS_WITH_PI_5 } else { &MODELS };
    let version = about.version;
    Ok(json!({
        "name": format!("bramble {version}"),
        "description": "One computer out of small machines. Settings: bramble.toml on the card.",
        "icon": "",
        "url": format!("{}/{}", about.url.trim_end_matches('/'), encoded(&name)),
        "extract_size": plain.0,
        "extract_sha256": plain.1,
        "image_download_size": packed.0,
        "image_download_sha256": packed.1,
        "release_date": about.date,
        "devices": devices,
        // Imager's own questions would be answered by nobody.
        "init_format": "none",
    }))
}

/// A file's name as part of a URL (RFC 3986).
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode =
        |byte: u8| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

fn digest(reader: &mut dyn io::Read) -> io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let bytes = io::copy(reader, &mut digest)?;
    Ok((bytes, hex::encode(digest.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::mbr::{self, Partition};

    #[test]
    fn sizes_and_digests_are_of_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pi.img.gz");
        let end = 4 << 20;
        let table = [Partition::new(0x0c, 1 << 20..end).unwrap(); 4];
        let mut plain = vec![7; end as usize];
        plain[..512].copy_from_slice(&mbr::write(&[], 1, &table));
        let packed = crate::disk::initramfs::gzip(&plain);
        std::fs::write(&path, &packed).unwrap();
        let about = About { url: "mirror://x/", version: "1", date: "2026-11-28", pi_5: false };
        let list = make(&[path], &about).unwrap();
        let entry = &list["os_list"][0];
        assert_eq!(entry["url"], "mirror://x/pi.img.gz");
        assert_eq!(entry["extract_size"], end);
        assert_eq!(entry["extract_sha256"], hex::encode(Sha256::digest(&plain)));
        assert_eq!(entry["image_download_size"], packed.len());
        assert_eq!(entry["image_download_sha256"], hex::encode(Sha256::digest(&packed)));
        assert_eq!(entry["devices"], json!(["pi4-64bit", "pi3-64bit"]));
        assert!(make(&[dir.path().join("absent")], &about).is_err());
        let cut = dir.path().join("cut.img");
        std::fs::write(&cut, &plain[..end as usize - 1]).unwrap();
        let error = make(&[cut], &about).unwrap_err().to_string();
        assert!(error.contains("is not whole"), "{error}");
        assert_eq!(encoded("p é#1.img.xz"), "p%20%C3%A9%231.img.xz");
    }
}
