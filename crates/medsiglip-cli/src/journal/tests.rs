use super::*;
use crate::pictures::DicomSource;

fn outcomes() -> Vec<Outcome> {
    let failed = Failed {
        code: "BAD_IMAGE".into(),
        message: "torn".into(),
    };
    let about = About {
        truncated: true,
        warnings: vec!["first page of 3".into()],
        dicom: Some(Box::new(DicomSource {
            frame: 3,
            modality: Some("CT".into()),
            ..DicomSource::default()
        })),
        stamp: Some(Stamp {
            size: 7,
            modified: u64::MAX,
        }),
    };
    let all = [
        (Ok(vec![0.5, -0.0, f32::MIN_POSITIVE]), about),
        (Err(failed), About::default()),
        (Ok(vec![1.0]), About::default()),
    ];
    all.map(|(embedding, about)| Outcome { embedding, about })
        .into()
}

fn inputs() -> Vec<Item> {
    ["a.png", "b.png"]
        .map(|path| Item::Image(PathBuf::from(path).into()))
        .into()
}

fn fingerprint(recipe: &str) -> Fingerprint {
    Fingerprint::from([("recipe".into(), recipe.into())])
}

fn journal_of(path: &Path, batches: usize) {
    let mut journal = Journal::claim(path, false).unwrap();
    journal
        .start(&fingerprint("hf"), &inputs(), |_, _| ())
        .unwrap();
    (0..batches).for_each(|start| journal.append(start, &outcomes()).unwrap());
}

fn resume(path: &Path) -> (Journal, usize) {
    let mut count = 0;
    let mut journal = Journal::claim(path, true).unwrap();
    let keep = |start, kept| {
        assert_eq!((start, kept), (count, outcomes()));
        count += 1;
    };
    journal.start(&fingerprint("hf"), &inputs(), keep).unwrap();
    (0..count).for_each(|start| assert_eq!(journal.batch(start).unwrap(), outcomes()));
    (journal, count)
}

fn refused(path: &Path, recipe: &str, inputs: &[Item]) -> String {
    let mut journal = Journal::claim(path, true).unwrap();
    let result = journal.start(&fingerprint(recipe), inputs, |_, _| ());
    format!("{:?}", result.unwrap_err())
}

#[test]
fn what_was_kept_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    journal_of(&path, 2);
    let (mut journal, count) = resume(&path);
    assert_eq!(count, 2);
    journal.append(2, &outcomes()).unwrap();
    assert_eq!(journal.batch(2).unwrap(), outcomes());
    drop(journal);
    assert_eq!(resume(&path).1, 3);
}

#[test]
fn the_last_record_of_a_batch_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    journal_of(&path, 2);
    let (mut journal, _) = resume(&path);
    journal.append(0, &outcomes()[..1]).unwrap();
    drop(journal);
    let mut journal = Journal::claim(&path, true).unwrap();
    journal
        .start(&fingerprint("hf"), &inputs(), |_, _| ())
        .unwrap();
    assert_eq!(journal.batch(0).unwrap(), outcomes()[..1]);
    assert_eq!(journal.batch(1).unwrap(), outcomes());
    assert!(journal.batch(2).is_err());
}

#[test]
fn files_about_to_be_put_into_place_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    journal_of(&path, 1);
    let (mut journal, _) = resume(&path);
    assert_eq!(journal.committed().unwrap(), []);
    let files = [("a".to_owned(), Stamp::of(&path).unwrap())];
    journal.commit(&files).unwrap();
    journal.append(1, &outcomes()).unwrap();
    drop(journal);
    assert_eq!(resume(&path).0.committed().unwrap(), files);
}

#[test]
fn a_torn_or_damaged_end_is_dropped_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    journal_of(&path, 0);
    let header = std::fs::read(&path).unwrap().len();
    std::fs::remove_file(&path).unwrap();
    journal_of(&path, 2);
    let whole = std::fs::read(&path).unwrap();
    let record = (whole.len() - header) / 2;
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut journal, count) = resume(&path);
        let expected = length.saturating_sub(header) / record;
        assert_eq!(count, expected, "torn at {length}");
        journal.append(count, &outcomes()).unwrap();
        drop(journal);
        assert_eq!(resume(&path).1, count + 1, "torn at {length}");
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    assert_eq!(resume(&path).1, 1);
}

#[test]
fn a_run_with_other_options_or_inputs_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    journal_of(&path, 1);
    assert!(Journal::claim(&path, false).is_err());
    let told = refused(&path, "eval-tf", &inputs());
    assert!(
        told.contains(r#"recipe was \"hf\", is \"eval-tf\""#),
        "{told}"
    );
    let mut more = inputs();
    more.remove(0);
    more.extend((1..=4).map(|i| Item::Image(PathBuf::from(format!("{i}.png")).into())));
    let told = refused(&path, "hf", &more);
    assert!(told.contains("new: 4 (1.png, 2.png, 3.png, ...)"), "{told}");
    assert!(told.contains("missing: 1 (a.png)"), "{told}");
    let told = refused(
        &path,
        "hf",
        &[inputs(), vec![Item::Text("secret".into())]].concat(),
    );
    assert!(told.contains("new: 1 (a text)"), "{told}");
    more = inputs();
    more.reverse();
    assert!(refused(&path, "hf", &more).contains("another order"));
    assert_eq!(resume(&path).1, 1, "a refusal must not touch the journal");
}

#[test]
fn a_foreign_file_is_not_taken_for_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    for text in ["something else\n", "something else"] {
        std::fs::write(&path, text).unwrap();
        refused(&path, "hf", &inputs());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn two_processes_cannot_share_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    let _first = Journal::claim(&path, false).unwrap();
    assert!(Journal::claim(&path, true).is_err());
}
