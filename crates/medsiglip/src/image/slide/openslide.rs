//! Slides through OpenSlide, which is looked for while the program runs.
//!
//! Nothing of OpenSlide is needed to build: its fifteen functions are declared here and found in the library by name
//! (`openslide.h` of 3.4 and 4.0). The library is the file that `MEDSIGLIP_OPENSLIDE` names, or one of the usual names on
//! the system's search path.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use libloading::Library;

use super::{Level, Limits, Slide, SlideInfo, checked_level, white};
use crate::{Error, Result};

/// The variable that names the library's file.
const VARIABLE: &str = "MEDSIGLIP_OPENSLIDE";

/// Names of the library, newest first.
const NAMES: &[&str] = if cfg!(windows) {
    &["libopenslide-1.dll", "libopenslide-0.dll"]
} else if cfg!(target_os = "macos") {
    &[
        "libopenslide.1.dylib",
        "libopenslide.0.dylib",
        "libopenslide.dylib",
        "/opt/homebrew/lib/libopenslide.1.dylib",
        "/usr/local/lib/libopenslide.1.dylib",
    ]
} else {
    &["libopenslide.so.1", "libopenslide.so.0", "libopenslide.so"]
};

/// Bytes of decoded tiles that OpenSlide keeps for each slide.
const CACHE_BYTES: usize = 64 << 20;

/// Largest ICC profile that is taken.
const MAX_ICC_BYTES: usize = 16 << 20;

/// `openslide_t`, of which only OpenSlide knows the inside.
type Handle = c_void;

/// Declares the functions as a struct of pointers that are found by their names.
macro_rules! functions {
    ($(fn $name:ident($($arg:ty),*) $(-> $ret:ty)?;)* optional $(fn $opt:ident($($oarg:ty),*) $(-> $oret:ty)?;)*) => {
        /// OpenSlide's functions; those of version 4 may be missing.
        #[allow(non_snake_case)]
        struct Functions {
            $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
            $($opt: Option<unsafe extern "C" fn($($oarg),*) $(-> $oret)?>,)*
            /// The pointers above are valid as long as it is loaded.
            _library: Library,
        }

        impl Functions {
            /// # Safety
            /// `library` must be OpenSlide: functions of these names must have these signatures.
            unsafe fn find(library: Library) -> Result<Self, libloading::Error> {
                // SAFETY: the caller's promise; a pointer is copied out, and the library is kept beside it.
                unsafe {
                    Ok(Self {
                        $($name: *library.get(concat!("openslide_", stringify!($name)))?,)*
                        $($opt: library.get(concat!("openslide_", stringify!($opt))).ok().map(|f| *f),)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    fn get_version() -> *const c_char;
    fn detect_vendor(*const c_char) -> *const c_char;
    fn open(*const c_char) -> *mut Handle;
    fn close(*mut Handle);
    fn get_error(*mut Handle) -> *const c_char;
    fn get_level_count(*mut Handle) -> i32;
    fn get_level_dimensions(*mut Handle, i32, *mut i64, *mut i64);
    fn get_level_downsample(*mut Handle, i32) -> f64;
    fn get_property_value(*mut Handle, *const c_char) -> *const c_char;
    fn read_region(*mut Handle, *mut u32, i64, i64, i32, i64, i64);
    optional
    fn get_icc_profile_size(*mut Handle) -> i64;
    fn read_icc_profile(*mut Handle, *mut c_void);
    fn cache_create(usize) -> *mut c_void;
    fn set_cache(*mut Handle, *mut c_void);
    fn cache_release(*mut c_void);
}

/// OpenSlide, loaded once; the error says how to install it.
fn library() -> Result<&'static Functions> {
    static LIBRARY: OnceLock<Result<Functions, String>> = OnceLock::new();
    let loaded = LIBRARY.get_or_init(load).as_ref();
    loaded.map_err(|message| Error::Unsupported(message.clone()))
}

fn load() -> Result<Functions, String> {
    let load_one = |name: &std::ffi::OsStr| {
        // SAFETY: loading runs the library's initialisers. OpenSlide's (and GLib's) have no requirements; that the file is
        // OpenSlide is what its name, or who set the variable, says.
        unsafe { Library::new(name).and_then(|library| Functions::find(library)) }
    };
    if let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
        return load_one(&file).map_err(|error| {
            format!("OpenSlide cannot be loaded from the file that {VARIABLE} names: {error}")
        });
    }
    let found = NAMES.iter().find_map(|name| load_one(name.as_ref()).ok());
    found.ok_or_else(|| {
        format!(
            "OpenSlide is not installed: none of {} was found. Install it (apt install libopenslide0 or \
             libopenslide1, dnf install openslide, brew install openslide; for Windows from openslide.org), or pip \
             install openslide-bin and set \
             {VARIABLE} to the library's file in that package",
            NAMES.join(", ")
        )
    })
}

/// A slide that OpenSlide reads.
pub(super) struct OpenSlide {
    functions: &'static Functions,
    handle: NonNull<Handle>,
    info: SlideInfo,
    limits: Limits,
}

// SAFETY: all functions but `openslide_close` may be called on one handle from several threads at once, says
// `openslide.h`; `close` is called by `drop` alone, which has the only reference.
unsafe impl Send for OpenSlide {}
// SAFETY: as above.
unsafe impl Sync for OpenSlide {}

impl OpenSlide {
    /// Opens a file; `None` where OpenSlide does not know its format.
    ///
    /// # Errors
    /// `UNSUPPORTED` where OpenSlide is not installed, `BAD_IMAGE` where the file is damaged, `LIMIT_EXCEEDED`.
    pub(super) fn open(path: &Path, limits: &Limits) -> Result<Option<Self>> {
        let functions = library()?;
        let name = c_path(path)?;
        // SAFETY: `name` is a C string.
        let vendor = unsafe { text((functions.detect_vendor)(name.as_ptr())) };
        let Some(vendor) = vendor else {
            return Ok(None);
        };
        // SAFETY: as above.
        let handle = unsafe { (functions.open)(name.as_ptr()) };
        let handle = NonNull::new(handle).ok_or_else(|| damaged("opened"))?;
        let mut slide = Self {
            functions,
            handle,
            info: SlideInfo {
                format: vendor,
                reader: reader(functions),
                levels: Vec::new(),
                mpp_xy: None,
                objective_power: None,
                icc_profile: None,
                background: white(),
                warnings: Vec::new(),
            },
            limits: *limits,
        };
        slide.check("opened")?;
        slide.limit_cache();
        slide.read_info()?;
        Ok(Some(slide))
    }

    /// Once a call failed, OpenSlide refuses all others on the handle. Its text is not passed on: it quotes the file.
    fn check(&self, action: &str) -> Result<()> {
        // SAFETY: the handle is open.
        let is_failed = unsafe { !(self.functions.get_error)(self.handle.as_ptr()).is_null() };
        if is_failed {
            return Err(damaged(action));
        }
        Ok(())
    }

    fn limit_cache(&self) {
        let functions = self.functions;
        if let (Some(create), Some(set), Some(release)) = (
            functions.cache_create,
            functions.set_cache,
            functions.cache_release,
        ) {
            // SAFETY: the handle is open; it holds the cache from `set` on, so that our reference may go.
            unsafe {
                let cache = create(CACHE_BYTES);
                set(self.handle.as_ptr(), cache);
                release(cache);
            }
        }
    }

    fn read_info(&mut self) -> Result<()> {
        let handle = self.handle.as_ptr();
        // SAFETY: the handle is open.
        let count = unsafe { (self.functions.get_level_count)(handle) };
        for level in 0..count {
            let (mut width, mut height) = (0, 0);
            // SAFETY: the handle is open, and both places are ours.
            let downsample = unsafe {
                (self.functions.get_level_dimensions)(handle, level, &mut width, &mut height);
                (self.functions.get_level_downsample)(handle, level)
            };
            let side = |side: i64| u32::try_from(side).ok().filter(|side| *side > 0);
            let (Some(width), Some(height)) = (side(width), side(height)) else {
                return Err(Error::BadImage(format!(
                    "slide level {level}: expected sides of 1 to 2^32 pixels, got {width}x{height}"
                )));
            };
            if !(downsample.is_finite() && downsample >= 1.0) {
                return Err(Error::BadImage(format!(
                    "slide level {level}: expected a downsample of at least 1, got {downsample}"
                )));
            }
            self.info.levels.push(Level {
                width,
                height,
                downsample,
            });
        }
        if self.info.levels.is_empty() {
            return Err(Error::BadImage("slide without levels".into()));
        }
        self.info.set_mpp(
            self.number(c"openslide.mpp-x"),
            self.number(c"openslide.mpp-y"),
        );
        let power = self.number(c"openslide.objective-power");
        self.info.objective_power = power.filter(|power| power.is_finite() && *power > 0.0);
        let background = self.property(c"openslide.background-color");
        if let Some(color) = background.and_then(|hex| u32::from_str_radix(&hex, 16).ok()) {
            let [_, r, g, b] = color.to_be_bytes();
            self.info.background = [r, g, b];
        }
        self.info.icc_profile = self.icc_profile();
        self.check("read")
    }

    fn property(&self, name: &CStr) -> Option<String> {
        // SAFETY: the handle is open, `name` is a C string; the value lives as long as the handle and is copied.
        unsafe {
            let value = (self.functions.get_property_value)(self.handle.as_ptr(), name.as_ptr());
            text(value)
        }
    }

    fn number(&self, name: &CStr) -> Option<f64> {
        self.property(name)?.trim().parse().ok()
    }

    fn icc_profile(&self) -> Option<Vec<u8>> {
        let (size, read) = (
            self.functions.get_icc_profile_size?,
            self.functions.read_icc_profile?,
        );
        // SAFETY: the handle is open.
        let size = usize::try_from(unsafe { size(self.handle.as_ptr()) }).ok()?;
        if !(1..=MAX_ICC_BYTES).contains(&size) {
            return None;
        }
        let mut profile = vec![0_u8; size];
        // SAFETY: the handle is open, and the buffer has the size that was named.
        unsafe { read(self.handle.as_ptr(), profile.as_mut_ptr().cast()) };
        Some(profile)
    }
}

impl Slide for OpenSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read(&self, level: usize, x: u64, y: u64, width: u32, height: u32) -> Result<Vec<u8>> {
        checked_level(&self.info, level, width, height, &self.limits)?;
        let background = self.info.background;
        let pixels = width as usize * height as usize;
        let (slide_width, slide_height) = self.info.size();
        if x >= slide_width.into() || y >= slide_height.into() {
            return Ok(background.repeat(pixels));
        }
        let mut argb = vec![0_u32; pixels];
        // SAFETY: the handle is open, and the buffer has `width` x `height` places.
        unsafe {
            (self.functions.read_region)(
                self.handle.as_ptr(),
                argb.as_mut_ptr(),
                x as i64,
                y as i64,
                level as i32,
                width.into(),
                height.into(),
            );
        }
        self.check("read")?;
        let mut rgb = Vec::with_capacity(3 * pixels);
        for pixel in argb {
            rgb.extend_from_slice(&over(pixel, background));
        }
        Ok(rgb)
    }
}

impl Drop for OpenSlide {
    fn drop(&mut self) {
        // SAFETY: the handle is open, nothing else refers to it, and it is not used again.
        unsafe { (self.functions.close)(self.handle.as_ptr()) }
    }
}

/// A premultiplied ARGB pixel on the background: what `Image.paste(tile, None, tile)` makes of OpenSlide's Python tiles,
/// with the same rounding (`openslide/_convert.c`, and `BLEND` of Pillow's `ImagingUtils.h`).
fn over(argb: u32, background: [u8; 3]) -> [u8; 3] {
    let [alpha, r, g, b] = argb.to_be_bytes().map(u32::from);
    match alpha {
        255 => [r, g, b].map(|v| v as u8),
        0 => background,
        _ => [(r, 0), (g, 1), (b, 2)].map(|(v, channel)| {
            let color = (255 * v / alpha).min(255);
            let below: u32 = background[channel].into();
            let sum = below * (255 - alpha) + color * alpha + 128;
            (((sum >> 8) + sum) >> 8) as u8
        }),
    }
}

fn reader(functions: &Functions) -> String {
    // SAFETY: the function has no requirements; the text is constant and is copied.
    let version = unsafe { text((functions.get_version)()) };
    format!("openslide {}", version.unwrap_or_default())
}

/// A copy of a C string; `None` for a null pointer.
///
/// # Safety
/// `pointer` must be null or point to a C string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

/// OpenSlide takes the bytes of a path, on Windows in UTF-8.
fn c_path(path: &Path) -> Result<CString> {
    let c_string = CString::new(path.as_os_str().as_encoded_bytes());
    c_string.map_err(|_| Error::BadArgument("path of a slide: expected one without a zero".into()))
}

fn damaged(action: &str) -> Error {
    Error::BadImage(format!(
        "slide: OpenSlide says that it is damaged and cannot be {action}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translucent_pixels_are_blended_as_pillow_does() {
        let background = [255, 200, 0];
        assert_eq!(over(0, background), background);
        assert_eq!(over(0xFF01_0203, background), [1, 2, 3]);
        // Image.new("RGB", (1, 1), (255, 200, 0)).paste(tile, None, tile) with the tile (63, 127, 255, 128)
        assert_eq!(over(0x8020_4080, background), [159, 163, 128]);
    }
}
