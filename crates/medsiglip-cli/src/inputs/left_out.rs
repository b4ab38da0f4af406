//! What was found and is no input.

use std::collections::BTreeMap;

use crate::messages::count;

/// How many files of folders were left out, and why.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Pictures of formats that cannot be read yet, by the format's name.
    pub unsupported: BTreeMap<&'static str, usize>,
    /// Slides.
    pub slides: usize,
    /// Files of DICOM slides that are inputs by another of their files.
    pub levels: usize,
    /// DICOM objects that are no images: reports, structure sets, segmentations, doses.
    pub no_images: usize,
    /// Frames and slices that `--frames` and `--max-frames` left out.
    pub frames: usize,
    /// Pictures that are no DICOM, on discs whose DICOMDIR lists others.
    pub beside_discs: usize,
    /// What is no picture.
    pub others: usize,
}

impl LeftOut {
    /// `3 nifti files, 1 gif file`; `None` where there are none.
    pub fn unsupported(&self) -> Option<String> {
        let kinds = self.unsupported.iter();
        let parts: Vec<_> = kinds
            .map(|(name, number)| count(*number, &format!("{name} file")))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// What a person should know, a line each, each with whether it is a warning; `are_slides` where slides were
    /// looked for.
    pub fn told(&self, are_slides: bool) -> Vec<(bool, String)> {
        let mut lines = Vec::new();
        if let Some(files) = self.unsupported() {
            lines.push((true, format!("{files} left out: not supported yet")));
        }
        if self.slides > 0 {
            let files = count(self.slides, "whole-slide file");
            lines.push((
                true,
                format!("{files} left out: slides are taken with --tile"),
            ));
        }
        if self.levels > 0 {
            let files = count(self.levels, "dicom file");
            lines.push((
                false,
                format!("{files} left out: of slides that are inputs"),
            ));
        }
        if self.no_images > 0 {
            let files = count(self.no_images, "dicom object");
            lines.push((
                false,
                format!("{files} left out that are no images: reports, structures, masks, doses"),
            ));
        }
        if self.frames > 0 {
            let frames = count(self.frames, "frame");
            lines.push((
                false,
                format!("{frames} left out by --frames and --max-frames"),
            ));
        }
        if self.beside_discs > 0 {
            let files = count(self.beside_discs, "picture");
            lines.push((
                false,
                format!(
                    "{files} left out that a DICOMDIR beside them does not list: take them by name"
                ),
            ));
        }
        if self.others > 0 {
            let files = count(self.others, "file");
            let what = if are_slides { "slide" } else { "picture" };
            lines.push((false, format!("{files} left out: no {what}")));
        }
        lines
    }
}
