use super::samples::{gz, odd_entry, tar_gz, upload};
use super::*;
use proptest::prelude::*;

fn refusal(bytes: &[u8]) -> String {
    match check(bytes, &UploadLimits::default()) {
        Err(UploadError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_upload_is_taken() {
    let limits = UploadLimits::default();
    let bytes = upload("SN1");
    assert_eq!(
        check(bytes.as_slice(), &limits).unwrap().summary.as_deref(),
        Some("Acme R1 SN1")
    );
    assert_eq!(
        facts(bytes.as_slice(), &limits).unwrap().summary.as_deref(),
        Some("Acme R1 SN1")
    );
    let text = samples::inventory(&bytes);
    assert!(text.starts_with(b"{\"schema_version\":1") && text.ends_with(b"R1 SN1\"}}}"));
    for error in [
        facts(tar_gz(&[("x", b"")]).as_slice(), &limits).unwrap_err(),
        inventory(tar_gz(&[("x", b"")]).as_slice(), &limits, |_| Ok(())).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), NO_INVENTORY);
    }
    let full = inventory(bytes.as_slice(), &limits, |_| Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(full, Err(UploadError::Visit(error)) if error.kind() == io::ErrorKind::StorageFull));
}

#[test]
fn of_files_of_one_name_the_first_counts() {
    let twice = tar_gz(&[
        ("inventory.json", b"{\"system\":{\"vendor\":\"A\"}}"),
        ("./inventory.json", b"no json"),
    ]);
    assert_eq!(
        check(twice.as_slice(), &UploadLimits::default())
            .unwrap()
            .summary
            .as_deref(),
        Some("A")
    );
}

#[test]
fn what_is_no_upload_is_refused_with_a_reason() {
    assert!(refusal(b"hello").contains("not a whole tar.gz"));
    assert!(refusal(&gz(b"hello")).contains("not a"));
    assert!(refusal(&tar_gz(&[("raw/x", b"1")])).contains("no inventory.json"));
    assert!(refusal(&tar_gz(&[("inventory.json", b"[1]")])).contains("not a JSON object"));
    assert!(refusal(&tar_gz(&[("inventory.json", b"{")])).contains("not JSON"));
    let whole = upload("x");
    assert!(refusal(&whole[..whole.len() - 4]).contains("not a whole tar.gz"));
    let mut longer = whole.clone();
    longer.extend_from_slice(b"behind the end");
    assert!(refusal(&longer).contains("not a whole tar.gz"));
}

#[test]
fn a_path_out_of_the_root_is_refused() {
    for path in ["../evil", "raw/../../evil", "/etc/shadow", "raw/.."] {
        let bytes = odd_entry(
            |header| {
                let field = &mut header.as_old_mut().name;
                field.fill(0);
                field[..path.len()].copy_from_slice(path.as_bytes());
            },
            b"{}",
        );
        assert!(refusal(&bytes).contains("unsafe path"), "{path}");
    }
}

#[test]
fn links_are_passed_over() {
    let bytes = odd_entry(
        |header| {
            header.set_entry_type(EntryType::Symlink);
            header.set_link_name("/etc/shadow").unwrap();
        },
        b"",
    );
    assert!(refusal(&bytes).contains("no inventory.json"));
}

#[test]
fn a_bomb_meets_the_limits() {
    let limits = UploadLimits {
        entries: 4,
        unpacked_bytes: 100_000,
        inventory_bytes: 1000,
    };
    let check = |bytes: &[u8]| match super::check(bytes, &limits) {
        Err(UploadError::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(check(&gz(&vec![0u8; 10_000_000])).contains("more than 100000 bytes"));
    assert!(check(&tar_gz(&[("raw/a", &vec![b' '; 200_000])])).contains("more than 100000 bytes"));
    assert!(check(&tar_gz(&[("inventory.json", &vec![b' '; 2000])])).contains("2000 bytes"));
    assert!(check(&tar_gz(&[("a", b""), ("b", b""), ("c", b""), ("d", b""), ("e", b"")])).contains("4 entries"));
    let long = odd_entry(|h| h.set_entry_type(EntryType::GNULongName), &vec![b'n'; 90_000]);
    assert!(check(&long).contains("extension header"));
}

#[test]
fn long_names_are_read() {
    let path = format!("post/result/{}/{}", "d".repeat(90), "f".repeat(90));
    let bytes = tar_gz(&[("./inventory.json", b"{}"), (&path, b"1")]);
    let mut paths = Vec::new();
    walk(bytes.as_slice(), &UploadLimits::default(), |item| {
        paths.push(item.path.to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(paths, ["inventory.json".to_owned(), path]);
    let name = format!("post/{}", "y".repeat(120));
    let record = format!("{} path={name}\n", name.len() + 10);
    assert_eq!(pax_path(record.as_bytes()).unwrap().as_deref(), Some(name.as_bytes()));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = check(bytes.as_slice(), &UploadLimits::default()).is_ok();
        let _ = check(gz(&bytes).as_slice(), &UploadLimits::default()).is_ok();
        let _ = pax_path(&bytes).is_ok();
    }

    #[test]
    fn a_flipped_byte_is_noticed_or_harmless(at in any::<proptest::sample::Index>(), flip in 1u8..) {
        let mut bytes = upload("x");
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = check(bytes.as_slice(), &UploadLimits::default()).is_ok();
    }
}
