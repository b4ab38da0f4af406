use super::*;

#[test]
fn nct_crc_he_by_folder() {
    let pictures = [
        "CRC-VAL-HE-7K/ADI/ADI-TCGA-AAICEQFN.tif",
        "NCT-CRC-HE-100K-NONORM/TUM/TUM-AAWCSKAM.tif",
    ];
    let folder_ = folder(&[], &pictures);
    let source = open_with("nct-crc-he", folder_.path(), "split = \"split\"").unwrap();
    let columns = ["label", "colorectal_tissue", "split"];
    let all: Vec<_> = source
        .examples
        .iter()
        .map(|e| (e.id.as_str(), labels(e, &columns)))
        .collect();
    assert_eq!(
        all,
        [
            (
                pictures[0],
                "label=ADI colorectal_tissue=adipose split=test".to_owned()
            ),
            (
                pictures[1],
                "label=TUM colorectal_tissue=colorectal adenocarcinoma epithelium split=train"
                    .to_owned()
            )
        ]
    );
    let message = error("nct-crc-he", &folder(&[], &["images/1.tif"]));
    assert!(
        message.contains("expected pictures in folders ADI, BACK, DEB"),
        "{message}"
    );
}

#[test]
fn one_set_of_nct_crc_he_alone() {
    let parent = folder(&[], &["CRC-VAL-HE-7K/MUS/MUS-TCGA-AAICEQFN.tif"]);
    let source = open_with("nct-crc-he", &parent.path().join("CRC-VAL-HE-7K"), "").unwrap();
    assert_eq!(source.examples[0].id, "MUS/MUS-TCGA-AAICEQFN.tif");
}

#[test]
fn lc25000_by_folder() {
    let pictures = [
        "colon_image_sets/colon_aca/colonca1.jpeg",
        "lung_image_sets/lung_n/lungn1.jpeg",
        "lung_image_sets/lung_scc/lungscc1.jpeg",
    ];
    let source = open("lc25000", &folder(&[], &pictures));
    answers_its_tasks(&source);
    let columns = ["label", "lung_histology"];
    let all: Vec<String> = source
        .examples
        .iter()
        .map(|e| labels(e, &columns))
        .collect();
    assert_eq!(
        all,
        [
            "label=colon_aca lung_histology=",
            "label=lung_n lung_histology=Benign lung tissue",
            "label=lung_scc lung_histology=Lung squamous cell carcinoma"
        ]
    );
    assert!(source.warnings[0].contains("does not say which pictures are of one patient"));
    assert!(
        source.warnings[1].contains("pictures made from the same tile"),
        "{:?}",
        source.warnings
    );
}

#[test]
fn mhist() {
    let header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition\n";
    let text = format!("{header}MHIST_aaa.png,SSA,6,train\nMHIST_aac.png,HP,2,test\n");
    let pictures = ["images/MHIST_aaa.png", "images/MHIST_aac.png"];
    let folder_ = folder(&[("annotations.csv", &text)], &pictures);
    let source = open_with("mhist", folder_.path(), "split = \"split\"").unwrap();
    assert_eq!(
        labels(&source.examples[0], &["label", "ssa_votes", "split"]),
        "label=SSA ssa_votes=6 split=train"
    );
    // The label file may be called otherwise.
    std::fs::rename(
        folder_.path().join("annotations.csv"),
        folder_.path().join("a.csv"),
    )
    .unwrap();
    let source = open_with("mhist", folder_.path(), "label_files = \"a.csv\"").unwrap();
    assert_eq!(source.examples.len(), 2);
    let wrong = text.replace(",SSA,6", ",SSA,8");
    let message = error("mhist", &folder(&[("annotations.csv", &wrong)], &pictures));
    assert!(
        message.contains("row 1, column Number of Annotators"),
        "{message}"
    );
}
