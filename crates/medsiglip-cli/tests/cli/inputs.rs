//! What is taken as an input, and that mistakes show nothing of their content.

use crate::folder::{Folder, column};

/// Every hub id would be asked for here, where nobody answers.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn standard_input_is_a_list_or_a_csv() {
    let folder = Folder::with_pictures(2);
    let list = folder
        .run_with_input(&["embed", "-"], "scans/001.png\n\nscans/000.png\n")
        .expect(0);
    assert_eq!(
        column(&list.json(), "id"),
        ["scans/001.png", "scans/000.png"]
    );
    let csv = "case,path,text\n1,scans/000.png,\"chest, frontal\"\n2,,knee\n";
    let answer = folder.run_with_input(&["embed", "-"], csv).expect(0);
    let lines = answer.json();
    assert_eq!(
        column(&lines, "id"),
        ["scans/000.png", "chest, frontal", "knee"]
    );
    assert_eq!(column(&lines, "kind"), ["image", "text", "text"]);
}

#[test]
fn a_table_without_a_known_header_is_refused_and_not_shown() {
    let folder = Folder::with_pictures(1);
    let tables = [
        "DOE JOHN,1950,scans/000.png\nROE JANE,1960,scans/000.png\n",
        "patient,file\nDOE JOHN,scans/000.png\n",
        "patient;path\nDOE JOHN;scans/000.png\n",
        "scans/000.png\nDOE JOHN,scans/000.png\n",
        "DOE JOHN has a fracture of the left hip\n",
    ];
    for table in tables {
        let answer = folder.run_with_input(&["embed", "-"], table).expect(2);
        assert!(
            answer
                .stderr
                .starts_with("error[BAD_ARGUMENT]: standard input")
                && answer.stderr.contains("column path, image or text"),
            "{answer:#?}"
        );
        assert!(!answer.stderr.contains("DOE") && answer.stdout.is_empty());
    }
}

#[test]
fn a_path_that_is_missing_from_a_list_stops_no_other() {
    let folder = Folder::with_pictures(1);
    let list = "scans/gone.png\nscans/000.png\n";
    let answer = folder.run_with_input(&["embed", "-"], list).expect(1);
    assert_eq!(answer.json()[0]["error"]["code"], "IO_ERROR");
    assert!(answer.stderr.contains("scans/gone.png"));
}

/// Two GIFs, and a slide that is a TIFF by its first bytes.
fn with_unsupported(folder: &Folder) {
    folder.write("scans/brain.nii.gz", b"\x1f\x8b");
    folder.write("scans/film.gif", b"GIF89a\x01\0\x01\0");
    folder.write("scans/film2.gif", b"GIF89a\x01\0\x01\0");
    folder.write("scans/slide.svs", b"II*\0");
    folder.write("scans/notes.txt", "no picture");
}

#[test]
fn pictures_that_cannot_be_read_yet_are_counted_by_format() {
    let folder = Folder::with_pictures(1);
    with_unsupported(&folder);
    let answer = folder.run(&["embed", "scans", "--quiet"]).expect(0);
    assert_eq!(answer.json().len(), 1);
    assert_eq!(
        answer.stderr,
        "warning: 2 gif files, 1 nifti file left out: not supported yet\n\
         warning: 1 whole-slide file left out: slides are taken with --tile\n"
    );
    let answer = folder.run(&["embed", "scans"]).expect(0);
    assert!(
        answer.stderr.contains("note: 1 file left out: no picture"),
        "{answer:#?}"
    );
    std::fs::remove_file(folder.path("scans/000.png")).unwrap();
    let answer = folder.run(&["embed", "scans"]).expect(2);
    assert!(
        answer.stderr.contains("no pictures found but 2 gif files"),
        "{answer:#?}"
    );
}

#[test]
fn pictures_that_cannot_be_read_fail_by_name_where_they_are_given() {
    let folder = Folder::with_pictures(1);
    with_unsupported(&folder);
    let args = [
        "embed",
        "scans/000.png",
        "scans/slide.svs",
        "scans/film.gif",
    ];
    let answer = folder.run(&args).expect(1);
    let lines = answer.json();
    for (line, name) in lines[1..].iter().zip(["a whole slide", "gif"]) {
        assert_eq!(line["error"]["code"], "UNSUPPORTED");
        let message = line["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(name), "{message}");
    }
    let answer = folder.run(&["inspect", "scans/film.gif"]).expect(2);
    assert!(
        answer.stderr.starts_with("error[UNSUPPORTED]: gif file"),
        "{answer:#?}"
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once() {
    let folder = Folder::with_pictures(1);
    let binary = folder.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "cat scans/000.png | \"$0\" embed /dev/stdin"])
        .arg(binary.get_program())
        .current_dir(folder.path("."));
    let names = binary.get_envs();
    shell.envs(names.filter_map(|(name, value)| Some((name, value?))));
    let piped = crate::folder::answer(shell.output().unwrap()).expect(0);
    let file = folder.run(&["embed", "scans"]).expect(0);
    assert_eq!(piped.json()[0]["embedding"], file.json()[0]["embedding"]);
}

#[test]
fn a_mistyped_model_folder_is_asked_for_nowhere() {
    let folder = Folder::with_pictures(1);
    folder.write("models/medsiglip/config.json", "{}");
    let run = |model: &str| {
        let args = ["embed", "--text", "a", "--model", model];
        let mut command = folder.command(&args);
        command
            .env("HF_ENDPOINT", NOBODY)
            .env("HF_HOME", folder.path("hub"));
        crate::folder::answer(command.output().unwrap()).expect(2)
    };
    for model in [
        "models/medsig",
        "models/DOE_JOHN@v1",
        "./x",
        "a/b/c",
        "medsiglip",
    ] {
        let answer = run(model);
        assert!(
            answer.stderr.starts_with("error[BAD_ARGUMENT]")
                && answer.stderr.contains("no such folder or file"),
            "{answer:#?}"
        );
    }
    // The counterpart: what can only be a hub id is asked for.
    assert!(run("nobody/here").stderr.contains("error[HUB_ERROR]"));
}
