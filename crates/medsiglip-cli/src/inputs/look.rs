//! What a file of a folder is, by its name and its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use medsiglip::image::{Kind, SNIFF_BYTES, sniff};

/// Extensions of files that are pictures, or claim to be.
const EXTENSIONS: [&str; 13] = [
    "png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "pnm", "pbm", "pgm", "ppm", "jpe", "jfif",
];

/// Extensions of slides, many of which are TIFF by their first bytes.
const SLIDES: [&str; 10] = [
    "svs", "ndpi", "scn", "mrxs", "bif", "czi", "vms", "vmu", "svslide", "zvi",
];

/// Extensions of DICOM files, for those that are too damaged to show it.
const DICOM: [&str; 2] = ["dcm", "dicom"];

/// Extensions of picture formats that cannot be read yet, for files whose first bytes do not tell: what is packed,
/// damaged, or of a format without a magic number.
const UNSUPPORTED: [(&str, &str); 12] = [
    ("nii", "nifti"),
    ("nii.gz", "nifti"),
    ("mha", "metaimage"),
    ("mhd", "metaimage"),
    ("nrrd", "nrrd"),
    ("gif", "gif"),
    ("jp2", "jpeg 2000"),
    ("j2k", "jpeg 2000"),
    ("jxl", "jpeg xl"),
    ("heic", "heif"),
    ("heif", "heif"),
    ("avif", "avif"),
];

/// What a file of a folder is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A picture, or a file whose extension claims that it is one.
    Picture,
    /// A DICOM file, or one whose extension claims that it is one.
    Dicom,
    /// A slide.
    Slide,
    /// A picture of a format that cannot be read yet.
    Unsupported(&'static str),
    /// No picture.
    Other,
}

/// Looks at a file's name, then at its first bytes.
pub(super) fn look(path: &Path) -> Look {
    if has_extension(path, &EXTENSIONS) {
        return Look::Picture;
    }
    let named = UNSUPPORTED
        .iter()
        .find(|(extension, _)| has_extension(path, &[extension]));
    match first_bytes_show(path) {
        Kind::Dicom => Look::Dicom,
        _ if has_extension(path, &SLIDES) => Look::Slide,
        Kind::Unsupported("whole-slide") => Look::Slide,
        Kind::Unsupported(name) => Look::Unsupported(name),
        Kind::Unknown if has_extension(path, &DICOM) => Look::Dicom,
        Kind::Unknown => named.map_or(Look::Other, |(_, name)| Look::Unsupported(name)),
        _ => Look::Picture,
    }
}

/// Whether the name at the end of `path` ends with a dot and one of `extensions`, in whatever case.
fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    let has = |extension: &&str| {
        let stem = name.strip_suffix(extension);
        stem.is_some_and(|stem| stem.ends_with('.'))
    };
    extensions.iter().any(has)
}

/// Whether the name of `path` is that of a slide.
pub fn is_named_slide(path: &Path) -> bool {
    has_extension(path, &SLIDES)
}

/// Whether the name of `path` is that of a TIFF.
pub(super) fn is_tiff(path: &Path) -> bool {
    has_extension(path, &["tif", "tiff"])
}

/// What the first bytes of the file at `path` show; `Unknown` where it cannot be read, or not twice: of a pipe.
pub fn first_bytes_show(path: &Path) -> Kind {
    if !path.is_file() {
        return Kind::Unknown;
    }
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    let read =
        File::open(path).and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut start));
    read.map_or(Kind::Unknown, |_| sniff(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut dicom = [0; 200];
        dicom[128..132].copy_from_slice(b"DICM");
        let cases = [
            ("torn.PNG", &b""[..], Look::Picture),
            ("scan", b"P5\n2 2\n255\n", Look::Picture),
            ("slide.svs", b"II*\0", Look::Slide),
            ("page.tif", b"", Look::Picture),
            ("IM0001", &dicom, Look::Dicom),
            ("torn.dcm", b"", Look::Dicom),
            ("brain.nii.gz", b"\x1f\x8b", Look::Unsupported("nifti")),
            ("film.gif", b"GIF89a", Look::Unsupported("gif")),
            ("notes.txt", b"hello", Look::Other),
            ("archive.gz", b"\x1f\x8b", Look::Other),
            ("png", b"", Look::Other),
        ];
        for (name, bytes, expected) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(look(&path), expected, "{name}");
        }
    }
}
