use super::*;
use crate::tokenizer::charsmap::Charsmap;
use crate::tokenizer::{Canonicalizer, Tokenizer};

const CAPTIONS: [&str; 6] = [
    "A chest X-ray with no finding.",
    "a frontal chest X-ray, with pneumonia",
    "Fundus photograph: severe non-proliferative diabetic retinopathy",
    "fundus photograph without diabetic retinopathy",
    "H&E histopathology of benign lung tissue",
    "H&E histopathology of lung adenocarcinoma",
];

fn options(vocab_size: usize) -> TokenizerOptions {
    TokenizerOptions {
        vocab_size,
        length: 16,
    }
}

fn trained() -> TrainedTokenizer {
    TrainedTokenizer::train(CAPTIONS, &options(330)).unwrap()
}

fn bytes(tokenizer: &TrainedTokenizer) -> (String, Vec<u8>) {
    (
        tokenizer.tokenizer_json().to_string(),
        tokenizer.spiece_model(),
    )
}

#[test]
fn the_same_captions_give_the_same_bytes_in_whatever_order() {
    let first = bytes(&trained());
    for _ in 0..3 {
        assert_eq!(first, bytes(&trained()));
    }
    let turned = CAPTIONS.iter().rev();
    assert_eq!(
        first,
        bytes(&TrainedTokenizer::train(turned, &options(330)).unwrap())
    );
    // Letters that stand in one word, once each: all are as likely.
    let rare = CAPTIONS.iter().copied().chain(["αβγδεζηθικλμνξ"]);
    let rare: Vec<_> = (0..4)
        .map(|_| bytes(&TrainedTokenizer::train(rare.clone(), &options(330)).unwrap()))
        .collect();
    assert!(rare.iter().all(|one| *one == rare[0]));
}

#[test]
fn both_files_are_read_as_the_same_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tokenizer");
    let trained = trained();
    trained.write(&folder).unwrap();
    // Written again in its own place.
    trained.write(&folder).unwrap();
    let read = |file: TokenizerFile| {
        let bytes = std::fs::read(folder.join(file.name())).unwrap();
        Tokenizer::from_bytes(file, bytes, 16, trained.vocab_size()).unwrap()
    };
    let json = read(TokenizerFile::TokenizerJson);
    let spiece = read(TokenizerFile::Spiece);
    assert_eq!(json.vocabulary, trained.vocabulary);
    assert_eq!(spiece.vocabulary, trained.vocabulary);
    assert_eq!(json.eos_id(), 1);
    for text in [
        "Fundus, with a lung?",
        "naïve 5 µm",
        "",
        "_",
        "chest pneumonia",
        "zzz qqq",
    ] {
        let ids = |canonicalizer| json.encode(text, canonicalizer).unwrap();
        let slow = ids(Canonicalizer::HfSlow);
        assert_eq!(slow.ids.len(), 16);
        assert_eq!(slow, spiece.encode(text, Canonicalizer::HfSlow).unwrap());
        assert_eq!(slow.ids, ids(Canonicalizer::HfFast).ids, "{text}");
    }
}

/// What the trainer left is used: a word of the captions takes fewer ids than its letters, a foreign one its bytes.
#[test]
fn words_of_the_captions_are_cut_into_few_pieces() {
    let trained = TrainedTokenizer::train(CAPTIONS, &options(330)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("t");
    trained.write(&folder).unwrap();
    let tokenizer = Tokenizer::from_folder(&folder, 16, 330).unwrap();
    let ids = |text| {
        let ids = tokenizer.encode(text, Canonicalizer::HfSlow).unwrap().ids;
        ids.into_iter()
            .take_while(|id| *id != 1)
            .collect::<Vec<_>>()
    };
    assert!(ids("histopathology").len() <= 2);
    assert!(ids("histopathology").iter().all(|id| *id >= 259));
    // The space, then the two bytes of the letter.
    assert_eq!(ids("ж")[1..], [3 + 0xD0, 3 + 0xB6]);
}

#[test]
fn a_space_at_the_start_changes_nothing() {
    let map = Charsmap::from_bytes(&charsmap()).unwrap();
    assert!(map.is_closed());
    assert_eq!(map.normalize_prefix("\u{2581}x".as_bytes()), (&b" "[..], 3));
    for other in ["x", "\u{2580}", "\u{2582}", "â"] {
        let bytes = other.as_bytes();
        assert_eq!(map.normalize_prefix(bytes), (bytes, bytes.len()));
    }
    let json = trained().tokenizer_json().to_string().into_bytes();
    let tokenizer = Tokenizer::from_bytes(TokenizerFile::TokenizerJson, json, 16, 400).unwrap();
    for canonicalizer in Canonicalizer::ALL {
        let ids = |text| tokenizer.encode(text, canonicalizer).unwrap().ids;
        assert_eq!(ids("  lung tissue"), ids("lung tissue"), "{canonicalizer}");
    }
}

#[test]
fn special_tokens_stand_first_and_all_scores_are_ordered() {
    let trained = TrainedTokenizer::train(CAPTIONS, &options(300)).unwrap();
    let pieces = &trained.vocabulary.pieces;
    assert_eq!(trained.vocab_size(), 300);
    let first: Vec<_> = pieces.iter().take(4).map(|p| p.text.as_str()).collect();
    assert_eq!(first, ["<pad>", "</s>", "<unk>", "<0x00>"]);
    assert!(pieces[259..].is_sorted_by(|a, b| a.score >= b.score));
    assert!(pieces[259..].iter().all(|p| p.kind == PieceKind::Normal));
    let texts: BTreeSet<_> = pieces.iter().map(|p| &p.text).collect();
    assert_eq!(texts.len(), pieces.len());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let code = |captions: &[&str], options: &TokenizerOptions| {
        TrainedTokenizer::train(captions, options)
            .unwrap_err()
            .code()
    };
    assert_eq!(code(&[], &options(330)), "BAD_ARGUMENT");
    assert_eq!(code(&["", "?!", " _ "], &options(330)), "BAD_ARGUMENT");
    assert_eq!(code(&CAPTIONS, &options(280)), "BAD_ARGUMENT");
    assert_eq!(code(&CAPTIONS, &options(usize::MAX)), "BAD_ARGUMENT");
    let short = TokenizerOptions {
        length: 1,
        ..options(330)
    };
    assert_eq!(code(&CAPTIONS, &short), "BAD_ARGUMENT");
    // The least that holds every character; an endless word is left out.
    let long = "x".repeat(100_000);
    let odd = ["a\0b", "\0", &long, "▁▁ a"];
    assert_eq!(code(&odd, &options(261)), "BAD_ARGUMENT");
    let least = TrainedTokenizer::train(odd, &options(263)).unwrap();
    assert!((262..=263).contains(&least.vocab_size()));
}
