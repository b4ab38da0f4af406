//! `search --html`: the page shows hits as the model sees them, and no person.

use crate::folder::run;
use crate::index::indexed;
use crate::slides::with_slide;

#[test]
fn the_page_shows_hits_as_the_model_sees_them_and_no_person() {
    let folder = indexed(5);
    folder.write(
        "fields.csv",
        "path,patient,finding\nscans/001.png,SECRET,<b>nodule</b>\n",
    );
    run(&folder, "index add store scans --metadata fields.csv").expect(0);
    run(
        &folder,
        "search store --image scans/000.png --html hits.html",
    )
    .expect(0);
    let page = folder.text("hits.html");
    assert_eq!(page.matches("data:image/png;base64,").count(), 5);
    assert!(page.contains("Not for clinical use") && page.contains("nodule"));
    assert!(
        !page.contains("SECRET") && !page.contains("<b>nodule"),
        "no person, no foreign markup"
    );
    assert!(!page.contains("http"), "nothing from any network");
    // A file that has changed since is not what was found.
    folder.picture("scans/002.png", 50);
    let args = [
        "--where",
        "patient is null or patient = 'SECRET'",
        "--html",
        "hits.html",
    ];
    folder
        .run(&[&["search", "store", "--image", "scans/000.png"], &args[..]].concat())
        .expect(0);
    let page = folder.text("hits.html");
    assert_eq!(page.matches("data:image/png;base64,").count(), 4);
    assert!(!page.contains("SECRET"), "not in what was asked either");
}

#[test]
fn tiles_of_slides_are_found_and_shown() {
    let folder = with_slide();
    let line = "index add store slide.png --level 0 --no-tissue --tile";
    run(&folder, &format!("{line} 64")).expect(0);
    run(
        &folder,
        "search store --like slide.png#x=0,y=0 --html hits.html",
    )
    .expect(0);
    let page = folder.text("hits.html");
    let hits = page.matches("<figure>").count();
    assert_eq!(hits, 10);
    assert_eq!(page.matches("data:image/png;base64,").count(), hits);
    let refused = run(&folder, &format!("{line} 32")).expect(2);
    assert!(
        refused.stderr.contains("made with tile 64, got 32"),
        "{refused:?}"
    );
}
