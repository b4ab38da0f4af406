//! open_clip's `basic_clean` (`open_clip/tokenizer.py`): `ftfy.fix_text`, then HTML entities twice.
//!
//! ftfy guesses at broken encodings; that part is not done here. See
//! [`Canonicalizer::OpenClip`](super::Canonicalizer::OpenClip) for the exact extent.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// A text of repeatedly escaped entities is unescaped at most so often; ftfy goes on until nothing changes.
const MAX_PASSES: usize = 16;

/// The text cleaned by open_clip, before `canonicalize_text`.
pub(super) fn basic_clean(text: &str) -> String {
    let text = fix_text(text);
    let once = htmlize::unescape(text.as_str());
    htmlize::unescape(once.as_ref()).into_owned()
}

/// `ftfy.fix_text` line by line; from the first line with `<` on, entities are taken for HTML and left.
fn fix_text(text: &str) -> String {
    let mut is_html = false;
    let mut fixed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        is_html |= line.contains('<');
        fixed.push_str(&fix_line(line, is_html));
    }
    fixed
}

fn fix_line(line: &str, is_html: bool) -> String {
    let mut line = line.to_owned();
    for _ in 0..MAX_PASSES {
        let unescaped = if is_html {
            line.clone()
        } else {
            unescape_terminated(&line)
        };
        let fixed = fix_chars(&remove_terminal_escapes(&unescaped));
        if fixed == line {
            break;
        }
        line = fixed;
    }
    line
}

/// ftfy's `unescape_html`: entities that end in a semicolon (`&#?[0-9A-Za-z]{1,24};`), also in capitals.
fn unescape_terminated(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        unescaped.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = entity_len(rest).unwrap_or(1);
        let (entity, tail) = rest.split_at(length);
        unescaped.push_str(&unescape_entity(entity));
        rest = tail;
    }
    unescaped.push_str(rest);
    unescaped
}

fn entity_len(text: &str) -> Option<usize> {
    let body = text.strip_prefix('&')?;
    let name = body.strip_prefix('#').unwrap_or(body);
    let length = name.find(|c: char| !c.is_ascii_alphanumeric())?;
    let closed = (1..=24).contains(&length) && name[length..].starts_with(';');
    closed.then(|| text.len() - name.len() + length + 1)
}

fn unescape_entity(entity: &str) -> Cow<'_, str> {
    let unescaped = htmlize::unescape(entity);
    if unescaped != entity {
        // Only a part was an entity (`&ampx;`): ftfy leaves such a one alone.
        let whole = !unescaped.ends_with(';') || entity == "&semi;" || entity == "&#59;";
        return if whole { unescaped } else { entity.into() };
    }
    let lower = entity.to_ascii_lowercase();
    if entity.bytes().any(|b| b.is_ascii_lowercase()) || !lower.ends_with(';') {
        return unescaped;
    }
    match htmlize::unescape(lower.as_str()) {
        of_lower if of_lower.ends_with(';') => unescaped,
        of_lower => of_lower.to_uppercase().into(),
    }
}

/// ftfy's `remove_terminal_escapes`: `ESC [ digits and semicolons, a letter`.
fn remove_terminal_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, escape) = rest.split_at(at);
        kept.push_str(before);
        let body = &escape[2..];
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ';');
        let end = end.filter(|end| body.as_bytes()[*end].is_ascii_alphabetic());
        rest = match end {
            Some(end) => &body[end + 1..],
            None => {
                kept.push_str(&escape[..2]);
                body
            }
        };
    }
    kept.push_str(rest);
    kept
}

/// ftfy's `fix_character_width` for ASCII, `uncurl_quotes`, `fix_line_breaks`, `remove_control_chars`, NFC.
///
/// The other wide and half-wide forms, and the ligatures, hold no punctuation (but for `ŉ`):
/// SentencePiece's own map gives the same for them later.
fn fix_chars(text: &str) -> String {
    let fix = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0),
        '\u{3000}' => Some(' '),
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => Some('\''),
        '\u{201c}'..='\u{201f}' => Some('"'),
        '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => Some('\n'),
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' => None,
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => None,
        c => Some(c),
    };
    text.replace('ŉ', "'n")
        .chars()
        .filter_map(fix)
        .nfc()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_unescaped_as_by_ftfy_and_html() {
        for (text, expected) in [
            ("caf&eacute; &amp;amp;amp;lt;", "café <"),
            ("P&EACUTE;REZ", "PÉREZ"),
            ("<b> &amp;lt; &lt", "<b> < <"),
            ("a & b &nosuch; &#x41;&#65", "a & b &nosuch; AA"),
            ("&ampx;", "&x;"),
        ] {
            assert_eq!(basic_clean(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_widths_and_escapes() {
        assert_eq!(basic_clean("“patient’s” ＜５ｍｍ"), "\"patient's\" <5mm");
        assert_eq!(basic_clean("\x1b[1;31mred\x1b[0m \x1b[?x"), "red [?x");
    }
}
