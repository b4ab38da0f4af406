//! Which picture format the first bytes of a file show.

/// As many of a file's first bytes as [`sniff`] looks at; fewer are judged as the whole file.
pub const SNIFF_BYTES: usize = 256;

/// The ends of names, in lower case and without the dot, by which a folder's files are taken for pictures.
pub const PICTURE_EXTENSIONS: [&str; 13] = [
    "png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "pnm", "pbm", "pgm", "ppm", "jpe", "jfif",
];

/// As [`PICTURE_EXTENSIONS`], those of DICOM files, which many files of the format do not have.
pub const DICOM_EXTENSIONS: [&str; 2] = ["dcm", "dicom"];

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// PNG and APNG.
    Png,
    /// JPEG.
    Jpeg,
    /// TIFF and `BigTIFF`, slides among them.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// WebP.
    WebP,
    /// PBM, PGM, PPM and PAM.
    Pnm,
    /// DICOM, with a preamble or without.
    Dicom,
    /// A picture format that [`super::decode`] refuses, by its name: `nifti`, `nrrd`, `whole-slide` (Zeiss),
    /// `gif`, `jpeg 2000`, `jpeg xl`, `heif` or `avif`.
    Unsupported(&'static str),
    /// None of these.
    Unknown,
}

impl Kind {
    /// Whether [`super::decode`] reads this format.
    pub fn is_readable(self) -> bool {
        !matches!(self, Self::Unsupported(_) | Self::Unknown)
    }
}

/// Tells the format from a file's first [`SNIFF_BYTES`] bytes, never from a name.
///
/// Formats whose magic number is two letters (BMP, PNM) must show a plausible header too, so that a text that
/// begins with `BM` or `P1` is not taken for a picture.
pub fn sniff(bytes: &[u8]) -> Kind {
    let start = bytes.get(..SNIFF_BYTES).unwrap_or(bytes);
    match start {
        // First, since the 128 bytes before it may be the head of a TIFF (PS3.10 section 7.1).
        _ if start.get(128..132) == Some(b"DICM") => Kind::Dicom,
        [0x89, b'P', b'N', b'G', ..] => Kind::Png,
        [0xFF, 0xD8, 0xFF, ..] => Kind::Jpeg,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Kind::Tiff,
        _ if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") => Kind::WebP,
        _ if is_bmp(start) => Kind::Bmp,
        _ if is_pnm(start) => Kind::Pnm,
        _ if is_bare_dicom(start) => Kind::Dicom,
        _ => unsupported(start).map_or(Kind::Unknown, Kind::Unsupported),
    }
}

fn unsupported(start: &[u8]) -> Option<&'static str> {
    match start {
        _ if is_nifti(start) => Some("nifti"),
        _ if start.starts_with(b"NRRD000") => Some("nrrd"),
        _ if start.starts_with(b"ZISRAWFILE") => Some("whole-slide"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => {
            Some("jpeg 2000")
        }
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] | [0xFF, 0x0A, ..] => Some("jpeg xl"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4)? {
            b"avif" | b"avis" => Some("avif"),
            b"mif1" | b"msf1" | b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx"
            | b"hevm" | b"hevs" => Some("heif"),
            _ => None, // a film
        },
        _ => None,
    }
}

/// The size of the second header must be one that was ever in use (BMP versions 2 to 5, OS/2).
fn is_bmp(start: &[u8]) -> bool {
    start.starts_with(b"BM")
        && matches!(
            start.get(14..18),
            Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
        )
}

/// The magic number, then width, height and (but for bitmaps) the maximum as far as the bytes go.
fn is_pnm(start: &[u8]) -> bool {
    let (mut rest, numbers) = match start {
        [b'P', b'1' | b'4', rest @ ..] => (rest, 2),
        [b'P', b'2' | b'3' | b'5' | b'6', rest @ ..] => (rest, 3),
        [b'P', b'7', b'\n', rest @ ..] => {
            let keys: [&[u8]; 6] = [b"#", b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL", b"TUPLTYPE"];
            return keys.iter().any(|key| rest.starts_with(key));
        }
        _ => return false,
    };
    let has_comment = start.get(2..4).is_some_and(|s| s.ends_with(b"#"));
    for number in 0..numbers {
        let tail = skip_space(rest);
        if tail.is_empty() {
            return number > 0 || has_comment;
        }
        let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || tail.len() == rest.len() {
            return false;
        }
        rest = tail.get(digits..).unwrap_or_default();
    }
    rest.first().is_none_or(u8::is_ascii_whitespace)
}

/// The rest after white space and comments.
fn skip_space(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = rest.trim_ascii_start();
        if !rest.starts_with(b"#") {
            return rest;
        }
        let end = rest.iter().position(|&b| b == b'\n' || b == b'\r');
        rest = end.and_then(|at| rest.get(at..)).unwrap_or_default();
    }
}

/// DICOM without the preamble of DICOM PS3.10 section 7.1: the data set begins at once, with an element of group 2
/// or 8 that has a value representation, or one of group 8 that has a short value (PS3.5 sections 7.1.2 and 7.1.3).
fn is_bare_dicom(start: &[u8]) -> bool {
    let is_known = |vr: &[u8; 2]| {
        let first = [
            b"UL", b"OB", b"UI", b"SH", b"CS", b"LO", b"DA", b"TM", b"AE",
        ];
        first.contains(&vr)
    };
    match start {
        [2 | 8, 0, _, 0, a, b, ..] | [0, 2 | 8, 0, _, a, b, ..] if is_known(&[*a, *b]) => true,
        [8, 0, 0 | 1 | 5 | 8 | 0x16, 0, 1..=64, 0, 0, 0, ..] => true,
        _ => false,
    }
}

/// NIfTI 1 (and Analyze): header size 348 and 1 to 7 dimensions, in either byte order. NIfTI 2 has a magic number.
fn is_nifti(start: &[u8]) -> bool {
    let dimensions = start.get(40..42);
    match start {
        [0x5C, 1, 0, 0, ..] => matches!(dimensions, Some([1..=7, 0])),
        [0, 0, 1, 0x5C, ..] => matches!(dimensions, Some([0, 1..=7])),
        [0x1C, 2, 0, 0, magic @ ..] | [0, 0, 2, 0x1C, magic @ ..] => {
            magic.starts_with(b"n+2\0") || magic.starts_with(b"ni2\0")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_first_bytes() {
        let bmp = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0";
        for (bytes, kind) in [
            (&b"\x89PNG\r\n\x1a\n"[..], Kind::Png),
            (b"\xff\xd8\xff\xe0", Kind::Jpeg),
            (b"II*\0", Kind::Tiff),
            (b"MM\0+", Kind::Tiff),
            (b"RIFF\0\0\0\0WEBPVP8 ", Kind::WebP),
            (bmp, Kind::Bmp),
            (b"P6 60000 60000 255\n", Kind::Pnm),
            (b"P4\n# made by hand\n8 2\n\xff\0", Kind::Pnm),
            (b"P5#9\n3\t4 # wide\n65535\n", Kind::Pnm),
            (b"P2 12", Kind::Pnm),
            (b"P7\nWIDTH 3\n", Kind::Pnm),
        ] {
            assert_eq!(sniff(bytes), kind, "{}", bytes.escape_ascii());
            assert!(kind.is_readable());
        }
        let comment = format!("P6\n#{}\n3 4 255\n", "x".repeat(2 * SNIFF_BYTES));
        assert_eq!(sniff(comment.as_bytes()), Kind::Pnm);
    }

    #[test]
    fn texts_and_films_are_no_pictures() {
        for bytes in [
            &b"BMI and age of 120 patients"[..],
            b"BM",
            b"P1 ",
            b"P1 was seen twice",
            b"P2 12 controls",
            b"P3 1 2 3rd visit",
            b"P7\nnotes",
            b"\0\0\0\x20ftypisom",
            b"GIF80 is a code",
            b"\x08\0\x05\0and more",
            b"RIFF\0\0\0\0WAVE",
            b"",
        ] {
            assert_eq!(sniff(bytes), Kind::Unknown, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn dicom_is_told_without_a_preamble_too() {
        let mut dicom = [0; 200];
        dicom[128..132].copy_from_slice(b"DICM");
        let mut tiff_too = dicom;
        tiff_too[..4].copy_from_slice(b"II*\0");
        for bytes in [
            &dicom[..],
            &tiff_too,
            b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
            b"\0\x08\0\x05CS\0\x0aISO_IR 100",
            b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100",
        ] {
            assert_eq!(sniff(bytes), Kind::Dicom);
        }
    }

    #[test]
    fn other_picture_formats_are_named() {
        let mut nifti = [0; 348];
        nifti[..4].copy_from_slice(&348_i32.to_le_bytes());
        nifti[40] = 3;
        for (bytes, name) in [
            (&nifti[..], "nifti"),
            (b"NRRD0004\n", "nrrd"),
            (b"ZISRAWFILE\0\0", "whole-slide"),
            (b"\x1c\x02\0\0n+2\0\r\n\x1a\n", "nifti"),
            (b"GIF89a", "gif"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg 2000"),
            (b"\xff\x4f\xff\x51", "jpeg 2000"),
            (b"\xff\x0a\xfa", "jpeg xl"),
            (b"\0\0\0\x18ftypheic", "heif"),
            (b"\0\0\0\x18ftypavif", "avif"),
        ] {
            assert_eq!(sniff(bytes), Kind::Unsupported(name));
            assert!(!sniff(bytes).is_readable());
        }
    }
}
