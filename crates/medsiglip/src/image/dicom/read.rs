//! The bytes of a DICOM file to its [`Header`], and where the pixels lie (PS3.5 section 7, PS3.10 section 7).
//!
//! The structure is walked here rather than by `dicom-object`'s own reader because a length is believed there before it
//! is compared with the file (4 GiB for a lie), and because readers of the field forgive what it does not: explicit value
//! representations that turn out to be implicit, no preamble, no file meta information. Only what some rule of ours
//! needs is kept: names, dates and free text are gone when a header has been read.

use std::borrow::Cow;
use std::io::Read;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::value::{C, DataSetSequence, PrimitiveValue};
use dicom_core::{DataElement, Length, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{InMemDicomObject, Tag};

use super::header::Header;
use super::source::{Cursor, Source};
use crate::image::Limits;
use crate::{Error, Result};

/// Sequences within sequences that are followed: real files have up to ten.
const MAX_DEPTH: usize = 32;
/// Elements that are kept: a slide of 100,000 tiles has a million.
const MAX_ELEMENTS: u64 = 4 << 20;
/// Longest value that is kept: ICC profiles and lookup tables are far below.
const MAX_VALUE: u32 = 16 << 20;
/// Longest text that is kept: no rule reads a longer one.
const MAX_TEXT: u32 = 64 << 10;
/// Bytes of all values that are kept, and what an item takes in memory beside them.
const MAX_KEPT: u64 = 1 << 30;
const ITEM_BYTES: u64 = 1 << 10;
/// Retired, and met in old files.
pub(super) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const UNDEFINED: u32 = u32::MAX;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// Where the pixels of a file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelElement {
    /// Pixel Data, Float Pixel Data or Double Float Pixel Data.
    pub tag: Tag,
    /// Where its value begins.
    pub offset: u64,
    /// The length of its value in bytes; `None` where it is encapsulated in fragments.
    pub length: Option<u64>,
    /// Whether its bytes stand the wrong way round in pairs: words in big endian.
    pub is_swapped: bool,
}

/// Reads the header. A deflated data set is inflated first, so that the source can be another one afterwards.
pub(super) fn read(
    source: Source,
    limits: &Limits,
) -> Result<(Source, Header, Option<PixelElement>)> {
    let mut cursor = Cursor::new(&source, 0);
    skip_preamble(&mut cursor)?;
    let syntax = file_meta(&mut cursor)?;
    let start = cursor.position;
    let (source, start) = match syntax.as_deref() {
        Some(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN) => (inflate(&source, start, limits)?, 0),
        _ => (source, start),
    };
    let mut cursor = Cursor::new(&source, start);
    let (encoding, syntax) = encoding(&mut cursor, syntax)?;
    let mut walk = Walk {
        cursor,
        encoding,
        elements: 0,
        kept: 0,
        pixels: None,
    };
    let mut dataset = InMemDicomObject::new_empty();
    walk.dataset(encoding, None, 0, &mut dataset)?;
    let pixels = walk.pixels;
    Ok((source, Header { dataset, syntax }, pixels))
}

/// The preamble is 128 bytes and `DICM` (PS3.10 section 7.1); some files have none of it.
fn skip_preamble(cursor: &mut Cursor) -> Result<()> {
    if cursor.left() >= 132 && cursor.peek::<132>()?.ends_with(b"DICM") {
        return cursor.skip(132);
    }
    if cursor.left() >= 4 && cursor.peek::<4>()? == *b"DICM" {
        return cursor.skip(4);
    }
    Ok(())
}

/// Reads the File Meta Information (group 2, explicit little endian) and gives its Transfer Syntax UID.
/// The group of commands (0000), which some files hold after it, is gone over.
fn file_meta(cursor: &mut Cursor) -> Result<Option<String>> {
    let mut syntax = None;
    while cursor.left() >= 8 {
        let [g0, g1, ..] = cursor.peek::<8>()?;
        let group = u16::from_le_bytes([g0, g1]);
        if group != 2 && group != 0 {
            break;
        }
        let encoding = if group == 2 {
            explicit_or_implicit(cursor)?
        } else {
            Encoding::IMPLICIT
        };
        let header = element_header(cursor, encoding)?;
        if header.length == UNDEFINED || u64::from(header.length) > cursor.left() {
            return Err(bad(header.tag, "its length is wrong"));
        }
        if header.tag == tags::TRANSFER_SYNTAX_UID && header.length <= 64 {
            let value = cursor.value(header.length as usize)?;
            let text = String::from_utf8_lossy(&value);
            let text = text.trim_matches([' ', '\0']);
            // A UID cannot hold patient data only if it is one.
            let is_uid = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            syntax = (is_uid && !text.is_empty()).then(|| text.to_owned());
        } else {
            cursor.skip(u64::from(header.length))?;
        }
    }
    Ok(syntax)
}

/// Inflates everything from `start` on (PS3.5 section A.5), up to the limit.
fn inflate(source: &Source, start: u64, limits: &Limits) -> Result<Source> {
    let length = source.length().saturating_sub(start);
    limits.check_file(length)?;
    let packed = source.read(start, length as usize)?;
    let mut bytes = Vec::new();
    let cap = limits.max_file_bytes.saturating_add(1);
    let result = flate2::read::DeflateDecoder::new(&packed[..])
        .take(cap)
        .read_to_end(&mut bytes);
    limits.check_file(bytes.len() as u64)?;
    // A damaged end is found by whoever needs it.
    if result.is_err() && bytes.is_empty() {
        return Err(Error::BadImage("DICOM deflated data set is damaged".into()));
    }
    Ok(Source::Bytes(bytes))
}

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding {
    is_explicit: bool,
    is_big_endian: bool,
}

impl Encoding {
    const IMPLICIT: Self = Self {
        is_explicit: false,
        is_big_endian: false,
    };
    const EXPLICIT: Self = Self {
        is_explicit: true,
        is_big_endian: false,
    };

    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.is_big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.is_big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// How the data set that begins here is written, and its transfer syntax where the file does not say.
fn encoding(cursor: &mut Cursor, syntax: Option<String>) -> Result<(Encoding, String)> {
    let declared = match syntax.as_deref() {
        None => None,
        Some(uids::IMPLICIT_VR_LITTLE_ENDIAN) => Some(Encoding::IMPLICIT),
        Some(EXPLICIT_VR_BIG_ENDIAN) => Some(Encoding {
            is_explicit: true,
            is_big_endian: true,
        }),
        Some(_) => Some(Encoding::EXPLICIT),
    };
    let found = if cursor.left() >= 8 {
        explicit_or_implicit(cursor)?
    } else {
        declared.unwrap_or(Encoding::IMPLICIT)
    };
    let mut encoding = declared.unwrap_or(found);
    encoding.is_explicit = found.is_explicit;
    if declared.is_none() && encoding.is_explicit && cursor.left() >= 2 {
        // The first group is a small number: its bytes tell their order.
        encoding.is_big_endian = u16::from_le_bytes(cursor.peek()?) >= 1024;
    }
    let guessed = match encoding {
        Encoding::IMPLICIT => uids::IMPLICIT_VR_LITTLE_ENDIAN,
        Encoding::EXPLICIT => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        _ => EXPLICIT_VR_BIG_ENDIAN,
    };
    Ok((encoding, syntax.unwrap_or_else(|| guessed.to_owned())))
}

/// Two capital letters after the tag are a value representation: a length that looks like this would be over 16 kB.
fn explicit_or_implicit(cursor: &mut Cursor) -> Result<Encoding> {
    let [_, _, _, _, a, b] = cursor.peek::<6>()?;
    let is_explicit = a.is_ascii_uppercase() && b.is_ascii_uppercase();
    Ok(if is_explicit {
        Encoding::EXPLICIT
    } else {
        Encoding::IMPLICIT
    })
}

/// What stands before a value.
struct ElementHeader {
    tag: Tag,
    /// `None` where the encoding is implicit.
    vr: Option<VR>,
    length: u32,
}

/// Reads a tag, value representation and length (PS3.5 section 7.1).
fn element_header(cursor: &mut Cursor, encoding: Encoding) -> Result<ElementHeader> {
    let [g0, g1, e0, e1, a, b, c, d] = cursor.take::<8>()?;
    let tag = Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
    let is_explicit = encoding.is_explicit && a.is_ascii_uppercase() && b.is_ascii_uppercase();
    if tag.group() == 0xFFFE || !is_explicit {
        let length = encoding.u32([a, b, c, d]);
        return Ok(ElementHeader {
            tag,
            vr: None,
            length,
        });
    }
    let vr = VR::from_binary([a, b]);
    // As pydicom does, an unknown representation is taken for one with a short length.
    let length = match vr {
        Some(vr) if has_long_length(vr) => encoding.u32(cursor.take()?),
        _ => u32::from(encoding.u16([c, d])),
    };
    let vr = Some(vr.unwrap_or(VR::UN));
    Ok(ElementHeader { tag, vr, length })
}

fn has_long_length(vr: VR) -> bool {
    use VR::*;
    matches!(
        vr,
        OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV
    )
}

/// Walks the elements of a data set.
struct Walk<'a> {
    cursor: Cursor<'a>,
    encoding: Encoding,
    elements: u64,
    /// Bytes of values kept so far.
    kept: u64,
    pixels: Option<PixelElement>,
}

impl Walk<'_> {
    /// Reads elements into `to` up to `end`, or to the delimiter where there is none, or to the pixels at the top.
    fn dataset(
        &mut self,
        encoding: Encoding,
        end: Option<u64>,
        depth: usize,
        to: &mut InMemDicomObject,
    ) -> Result<()> {
        loop {
            if end.is_some_and(|end| self.cursor.position >= end) {
                return Ok(());
            }
            if depth == 0 && self.cursor.left() < 8 {
                return Ok(());
            }
            let header = element_header(&mut self.cursor, encoding)?;
            if header.tag == ITEM_END {
                return Ok(());
            }
            self.count()?;
            if depth == 0 && self.is_pixels(&header) {
                return Ok(());
            }
            self.element(&header, encoding, depth, to)?;
        }
    }

    /// Counts an element or item.
    fn count(&mut self) -> Result<()> {
        self.elements += 1;
        limit("number of DICOM elements", self.elements, MAX_ELEMENTS)
    }

    /// Counts memory.
    fn keep(&mut self, bytes: u64) -> Result<()> {
        self.kept += bytes;
        limit("size of a DICOM header in bytes", self.kept, MAX_KEPT)
    }

    /// Notes where the pixels are; the walk ends there.
    fn is_pixels(&mut self, header: &ElementHeader) -> bool {
        let all = [
            tags::PIXEL_DATA,
            tags::FLOAT_PIXEL_DATA,
            tags::DOUBLE_FLOAT_PIXEL_DATA,
        ];
        if !all.contains(&header.tag) {
            return false;
        }
        self.pixels = Some(PixelElement {
            tag: header.tag,
            offset: self.cursor.position,
            length: (header.length != UNDEFINED).then_some(u64::from(header.length)),
            is_swapped: self.encoding.is_big_endian && header.vr == Some(VR::OW),
        });
        true
    }

    fn element(
        &mut self,
        header: &ElementHeader,
        encoding: Encoding,
        depth: usize,
        to: &mut InMemDicomObject,
    ) -> Result<()> {
        let ElementHeader { tag, length, .. } = *header;
        let vr = self.representation(header);
        if vr == VR::SQ {
            // An unknown representation of undefined length is an implicit sequence (PS3.5 section 6.2.2).
            let inner = match header.vr {
                Some(VR::UN) => Encoding::IMPLICIT,
                _ => encoding,
            };
            let items = self.sequence(inner, length, depth, tag)?;
            if is_kept(tag, depth) {
                let sequence = DataSetSequence::new(items, Length::UNDEFINED);
                to.put(DataElement::new(tag, VR::SQ, sequence));
            }
            return Ok(());
        }
        if length == UNDEFINED {
            return self.fragments(tag);
        }
        if u64::from(length) > self.cursor.left() {
            return Err(bad(tag, "its length is beyond the end of the file"));
        }
        let longest = if is_binary(vr) { MAX_VALUE } else { MAX_TEXT };
        if is_kept(tag, depth) && !is_personal(vr) && length <= longest {
            self.keep(u64::from(length))?;
            let bytes = self.cursor.value(length as usize)?;
            to.put(DataElement::new(tag, vr, value(vr, &bytes, encoding)));
            return Ok(());
        }
        self.cursor.skip(u64::from(length))
    }

    /// The value representation, from the dictionary where the file does not tell; `SQ` for what must be one.
    fn representation(&mut self, header: &ElementHeader) -> VR {
        let known = || {
            let entry = StandardDataDictionary.by_tag(header.tag);
            entry.map(|entry| entry.vr().relaxed())
        };
        match header.vr {
            Some(VR::UN) | None => {}
            Some(vr) => return vr,
        }
        let vr = known().unwrap_or(VR::UN);
        let is_unknown = vr == VR::UN && header.length == UNDEFINED;
        if is_unknown
            && self
                .cursor
                .peek::<4>()
                .is_ok_and(|b| b == [0xFE, 0xFF, 0x00, 0xE0])
        {
            return VR::SQ;
        }
        vr
    }

    fn sequence(
        &mut self,
        encoding: Encoding,
        length: u32,
        depth: usize,
        tag: Tag,
    ) -> Result<Vec<InMemDicomObject>> {
        if depth >= MAX_DEPTH {
            return Err(bad(tag, "sequences are nested too deeply"));
        }
        let end = self.end(length, tag)?;
        let mut items = Vec::new();
        while end.is_none_or(|end| self.cursor.position < end) {
            let item = element_header(&mut self.cursor, encoding)?;
            match item.tag {
                ITEM => {}
                SEQUENCE_END => break,
                _ => return Err(bad(tag, "it holds something else than items")),
            }
            let item_end = self.end(item.length, tag)?;
            let inner = self.item_encoding(encoding)?;
            let mut object = InMemDicomObject::new_empty();
            self.dataset(inner, item_end, depth + 1, &mut object)?;
            items.push(object);
            self.count()?;
            self.keep(ITEM_BYTES)?;
        }
        Ok(items)
    }

    /// Items of an explicit data set are implicit in some files; never the other way round.
    fn item_encoding(&mut self, encoding: Encoding) -> Result<Encoding> {
        if !encoding.is_explicit || self.cursor.left() < 6 {
            return Ok(encoding);
        }
        let [g0, g1, ..] = self.cursor.peek::<6>()?;
        let is_delimiter = encoding.u16([g0, g1]) == 0xFFFE;
        let is_explicit = is_delimiter || explicit_or_implicit(&mut self.cursor)?.is_explicit;
        Ok(Encoding {
            is_explicit,
            ..encoding
        })
    }

    /// Where a value of `length` that begins here ends; `None` where a delimiter says so.
    fn end(&self, length: u32, tag: Tag) -> Result<Option<u64>> {
        if length == UNDEFINED {
            return Ok(None);
        }
        if u64::from(length) > self.cursor.left() {
            return Err(bad(tag, "its length is beyond the end of the file"));
        }
        Ok(Some(self.cursor.position + u64::from(length)))
    }

    /// Goes over a value in fragments that is not the pixels: those of an icon.
    fn fragments(&mut self, tag: Tag) -> Result<()> {
        loop {
            let item = element_header(
                &mut self.cursor,
                Encoding {
                    is_explicit: false,
                    ..self.encoding
                },
            )?;
            match item.tag {
                ITEM => self.cursor.skip(u64::from(item.length))?,
                SEQUENCE_END => return Ok(()),
                _ => return Err(bad(tag, "it holds something else than fragments")),
            }
        }
    }
}

/// Whether some rule needs the element. At the top, what tells of a person is dropped but for the Patient ID, of which a
/// keyed hash can be asked for.
fn is_kept(tag: Tag, depth: usize) -> bool {
    if depth > 0 {
        return tag.group() != 0x0010;
    }
    match tag.group() {
        0x0004 | 0x0018 | 0x0020 | 0x0022 | 0x0028 | 0x0048 | 0x0054 | 0x2050 | 0x5200 | 0x7FE0 => {
            true
        }
        0x0008 => [
            tags::IMAGE_TYPE,
            tags::SOP_CLASS_UID,
            tags::SOP_INSTANCE_UID,
            tags::PYRAMID_UID,
            tags::MODALITY,
            tags::CONVERSION_TYPE,
        ]
        .contains(&tag),
        0x0010 => tag == tags::PATIENT_ID,
        0x0040 => tag != tags::ACQUISITION_CONTEXT_SEQUENCE,
        _ => false,
    }
}

/// Numbers and bytes, not text.
fn is_binary(vr: VR) -> bool {
    use VR::*;
    has_long_length(vr) || matches!(vr, AT | FD | FL | SL | SS | UL | US)
}

/// Names, dates and free text, wherever they stand.
fn is_personal(vr: VR) -> bool {
    matches!(
        vr,
        VR::PN | VR::DA | VR::DT | VR::TM | VR::LT | VR::ST | VR::UT | VR::UC
    )
}

/// A value in memory. Text is kept as it is where it is ASCII, which holds for everything that a rule reads.
fn value(vr: VR, bytes: &[u8], encoding: Encoding) -> PrimitiveValue {
    if bytes.is_empty() {
        return PrimitiveValue::Empty;
    }
    let swapped = |size: usize| -> Cow<[u8]> {
        if !encoding.is_big_endian {
            return Cow::Borrowed(bytes);
        }
        bytes
            .chunks_exact(size)
            .flat_map(|chunk| chunk.iter().rev().copied())
            .collect()
    };
    macro_rules! numbers {
        ($kind:ident, $type:ty) => {{
            let bytes = swapped(size_of::<$type>());
            let numbers = bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| <$type>::from_le_bytes(*b));
            PrimitiveValue::$kind(numbers.collect::<C<$type>>())
        }};
    }
    match vr {
        VR::US | VR::OW => numbers!(U16, u16),
        VR::SS => numbers!(I16, i16),
        VR::UL | VR::OL => numbers!(U32, u32),
        VR::SL => numbers!(I32, i32),
        VR::UV | VR::OV => numbers!(U64, u64),
        VR::SV => numbers!(I64, i64),
        VR::FL | VR::OF => numbers!(F32, f32),
        VR::FD | VR::OD => numbers!(F64, f64),
        VR::OB | VR::UN | VR::AT => PrimitiveValue::U8(bytes.into()),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            PrimitiveValue::Strs(text.split('\\').map(str::to_owned).collect())
        }
    }
}

fn limit(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit {
        return Err(Error::Limit { what, got, limit });
    }
    Ok(())
}

fn bad(tag: Tag, what: &str) -> Error {
    let (group, element) = (tag.group(), tag.element());
    Error::BadImage(format!("DICOM element ({group:04X},{element:04X}): {what}"))
}
