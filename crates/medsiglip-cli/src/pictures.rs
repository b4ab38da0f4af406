//! Reads the picture of an item, and says where it comes from. Files that hold several pictures are opened once.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use medsiglip::Error;
use medsiglip::image::dicom::DicomFile;
use medsiglip::image::slide::{self, Slide};
use medsiglip::image::{self, DecodeOptions, Kind, Picture};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::batches::{About, Failed};
use crate::inputs::{
    Cut, Part, Source, SourceFile, first_bytes_show, hex, is_named_slide, is_slide,
};
use crate::journal::{Fingerprint, Stamp};

/// Where a picture of a DICOM file comes from. Nothing in it names a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DicomSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study_instance_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_instance_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sop_instance_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sop_class_uid: Option<String>,
    /// From 1.
    pub frame: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_part: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub laterality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient_id_hash: Option<String>,
    /// The display rule and windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
}

/// Reads pictures, by several threads.
pub struct Reader {
    /// How files are read.
    pub decode: DecodeOptions,
    /// The key under which patient ids are hashed; without one they are dropped.
    pub patient_key: Option<Vec<u8>>,
    open: Pool,
}

impl Reader {
    /// A reader.
    pub fn new(decode: DecodeOptions, patient_key: Option<Vec<u8>>) -> Self {
        Self {
            decode,
            patient_key,
            open: Pool::default(),
        }
    }

    /// What decides pictures of DICOM files and what is said of them. Of the key there are four bytes of its checksum:
    /// enough to tell another key, nothing to find it by.
    pub fn fingerprint(&self) -> Fingerprint {
        let display = &self.decode.display;
        let key = self.patient_key.as_ref();
        let key = key.map(|key| hex(Sha256::digest(key).get(..4).unwrap_or_default()));
        Fingerprint::from([
            ("display".to_owned(), json!(display.rule.to_string())),
            (
                "ct windows".to_owned(),
                json!(display.ct_windows.to_string()),
            ),
            ("window".to_owned(), json!(display.window.to_string())),
            ("patient key".to_owned(), json!(key)),
        ])
    }

    /// The picture of `source`; what else is known comes into `about`, as far as it is known before a failure.
    pub fn read(&self, source: &Source, about: &mut About) -> Result<Picture, Failed> {
        if let Cut::Refused(failed) = &source.file.cut {
            about.stamp = Stamp::of(source.path());
            return Err(failed.clone());
        }
        if source.part == Part::Whole {
            return Ok(self.whole(source.path(), about)?);
        }
        let entry = self.open.get(&source.file, |file| match source.part {
            Part::Tile(_) => slide::open(&file.path, &self.decode.limits).map(Opened::Slide),
            _ => DicomFile::open(&file.path, &self.decode.limits)
                .map(|dicom| Opened::Dicom(Box::new(dicom))),
        });
        about.stamp = entry.stamp;
        let opened = entry.opened.as_ref().map_err(Failed::clone)?;
        let picture = match (opened, source.part, &source.file.cut) {
            (Opened::Dicom(dicom), Part::Frame(frame), _) => self.frame(dicom, frame, about),
            (Opened::Slide(slide), Part::Tile(index), Cut::Tiles(tiles)) => {
                tiles.tiling.tile(slide.as_ref(), index as usize)
            }
            _ => Err(Error::BadImage("the file has no such part".into())),
        };
        Ok(picture?)
    }

    fn whole(&self, path: &Path, about: &mut About) -> medsiglip::Result<Picture> {
        about.stamp = Stamp::of(path);
        if first_bytes_show(path) == Kind::Dicom {
            let dicom = DicomFile::open(path, &self.decode.limits)?;
            if dicom.frames() > 1 && !is_slide(&dicom) {
                return Err(Error::BadImage(
                    "DICOM file of several frames: it was another one when inputs were listed"
                        .into(),
                ));
            }
            return self.frame(&dicom, 0, about);
        }
        if is_named_slide(path) {
            return Err(is_a_slide());
        }
        image::open_with(path, &self.decode)
    }

    fn frame(
        &self,
        dicom: &DicomFile,
        frame: u32,
        about: &mut About,
    ) -> medsiglip::Result<Picture> {
        let mut source = dicom_source(dicom, frame);
        let key = self.patient_key.as_ref();
        source.patient_id_hash = key.and_then(|key| dicom.patient_id_hash(key));
        let source = about.dicom.insert(Box::new(source));
        if is_slide(dicom) {
            return Err(is_a_slide());
        }
        let picture = dicom.picture(frame, &self.decode.display)?;
        source.display.clone_from(&picture.source().display);
        Ok(picture)
    }
}

fn is_a_slide() -> Error {
    Error::Unsupported(
        "a whole slide: cut it into tiles with --tile, for example --tile 448 --mpp 0.5".into(),
    )
}

/// Where a frame comes from, by what the file says.
pub fn dicom_source(dicom: &DicomFile, frame: u32) -> DicomSource {
    let info = dicom.info().clone();
    DicomSource {
        study_instance_uid: info.study_instance_uid,
        series_instance_uid: info.series_instance_uid,
        sop_instance_uid: info.sop_instance_uid,
        sop_class_uid: info.sop_class_uid,
        frame: frame.saturating_add(1),
        modality: info.modality,
        body_part: info.body_part_examined,
        view_position: info.view_position,
        laterality: info.laterality,
        patient_id_hash: None,
        display: None,
    }
}

/// A file that is open.
enum Opened {
    Dicom(Box<DicomFile>),
    Slide(Box<dyn Slide>),
}

/// A file as it was before it was opened, and what became of that.
struct Entry {
    stamp: Option<Stamp>,
    opened: Result<Opened, Failed>,
}

/// The files that were used last. Pictures of a file come one after the other, so that few are in use at a time.
#[derive(Default)]
struct Pool {
    files: Mutex<Vec<(Arc<SourceFile>, Arc<Cell>)>>,
}

type Cell = OnceLock<Arc<Entry>>;

/// How many files stay open.
const KEPT_OPEN: usize = 4;

impl Pool {
    /// The file, opened by whoever comes first.
    fn get(
        &self,
        file: &Arc<SourceFile>,
        open: impl FnOnce(&SourceFile) -> medsiglip::Result<Opened>,
    ) -> Arc<Entry> {
        let cell = self.cell(file);
        let entry = cell.get_or_init(|| {
            let stamp = Stamp::of(&file.path);
            let opened = open(file).map_err(Failed::from);
            Arc::new(Entry { stamp, opened })
        });
        Arc::clone(entry)
    }

    fn cell(&self, file: &Arc<SourceFile>) -> Arc<Cell> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files.iter().position(|(one, _)| Arc::ptr_eq(one, file));
        let entry = match found {
            Some(at) => files.remove(at),
            None => (Arc::clone(file), Arc::default()),
        };
        let cell = Arc::clone(&entry.1);
        files.push(entry);
        if files.len() > KEPT_OPEN {
            files.remove(0);
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_once_while_it_is_in_use() {
        let pool = Pool::default();
        let files: Vec<Arc<SourceFile>> = (0..KEPT_OPEN + 1)
            .map(|i| crate::inputs::Source::from(std::path::PathBuf::from(i.to_string())).file)
            .collect();
        let opened = std::cell::Cell::new(0);
        let get = |at: usize| {
            pool.get(&files[at], |_| {
                opened.set(opened.get() + 1);
                Err(Error::Interrupted)
            })
        };
        for at in [0, 0, 1, 2, 3, 0, 1] {
            assert_eq!(get(at).opened.as_ref().err().unwrap().code, "INTERRUPTED");
        }
        assert_eq!(opened.get(), 4);
        get(4);
        get(0);
        assert_eq!(opened.get(), 5, "the least recently used one is closed");
        get(2);
        assert_eq!(opened.get(), 6);
    }
}
