//! Transforms RGB pixels from standard input: `icc PROFILE.icc TARGET < in.rgb > out.rgb`.

use std::io::{Read, Write};

use medsiglip::image::color::IccTransform;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [profile, target] = &args[..] else {
        return Err("expected a profile and a target".into());
    };
    let mut rgb = Vec::new();
    std::io::stdin().read_to_end(&mut rgb)?;
    if let Some(transform) = IccTransform::new(&std::fs::read(profile)?, target.parse()?)? {
        transform.apply(&mut rgb)?;
    }
    std::io::stdout().write_all(&rgb)?;
    Ok(())
}
