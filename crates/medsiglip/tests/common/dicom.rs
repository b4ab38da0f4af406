//! Writes small DICOM files, byte by byte, so that tests can also write wrong ones.

#![allow(dead_code)] // each test file uses its own part

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const RLE: &str = "1.2.840.10008.1.2.5";

/// A data set in explicit little endian.
#[derive(Clone, Default)]
pub struct Dataset(pub Vec<u8>);

impl Dataset {
    /// One element; elements must be added in the order of their tags.
    pub fn put(mut self, (group, element): (u16, u16), vr: &str, value: &[u8]) -> Self {
        self.head((group, element), vr, (value.len() + value.len() % 2) as u32);
        self.0.extend(value);
        if value.len() % 2 == 1 {
            self.0.push(if vr == "UI" || vr == "OB" { 0 } else { b' ' });
        }
        self
    }

    pub fn us(self, tag: (u16, u16), value: u16) -> Self {
        self.put(tag, "US", &value.to_le_bytes())
    }

    /// Tag, value representation and any length, without a value.
    pub fn head(&mut self, (group, element): (u16, u16), vr: &str, length: u32) {
        self.0.extend(group.to_le_bytes());
        self.0.extend(element.to_le_bytes());
        self.0.extend(vr.as_bytes());
        if ["OB", "OW", "OF", "OD", "SQ", "UN", "UT"].contains(&vr) {
            self.0.extend([0, 0]);
            self.0.extend(length.to_le_bytes());
        } else {
            self.0.extend((length as u16).to_le_bytes());
        }
    }

    /// The Image Pixel module of a gray picture.
    pub fn gray(self, rows: u16, columns: u16, bits: u16) -> Self {
        self.us((0x28, 2), 1)
            .put((0x28, 4), "CS", b"MONOCHROME2")
            .size(rows, columns, bits)
    }

    /// The same of frames of two by three pixels of 8 bits, `number` of them.
    pub fn frames(self, number: &[u8]) -> Self {
        self.us((0x28, 2), 1)
            .put((0x28, 4), "CS", b"MONOCHROME2")
            .put((0x28, 8), "IS", number)
            .size(2, 3, 8)
    }

    /// What follows on the photometric interpretation.
    pub fn size(self, rows: u16, columns: u16, bits: u16) -> Self {
        self.us((0x28, 0x10), rows)
            .us((0x28, 0x11), columns)
            .us((0x28, 0x100), bits)
            .us((0x28, 0x101), bits)
            .us((0x28, 0x102), bits - 1)
            .us((0x28, 0x103), 0)
    }

    /// Pixel Data in fragments; the first is the offset table.
    pub fn fragments(mut self, fragments: &[&[u8]]) -> Self {
        self.head((0x7FE0, 0x10), "OB", u32::MAX);
        for fragment in fragments {
            self.0.extend([0xFE, 0xFF, 0x00, 0xE0]);
            self.0.extend((fragment.len() as u32).to_le_bytes());
            self.0.extend(*fragment);
        }
        self.0.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        self
    }

    /// The whole file, with preamble and file meta information.
    pub fn file(&self, syntax: &str) -> Vec<u8> {
        let meta = Self::default().put((2, 0x10), "UI", syntax.as_bytes());
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        bytes.extend(meta.0);
        bytes.extend(&self.0);
        bytes
    }
}
