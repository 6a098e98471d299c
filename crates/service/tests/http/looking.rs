//! Looking into images, listing and fetching files.

use std::fs;

use transload_testkit::{Random, witness};

use crate::server::Server;

#[test]
fn the_formats_are_those_of_the_table() {
    let server = Server::start();
    let formats = server.get("/v1/formats").json();
    let names: Vec<_> = formats["formats"].as_array().unwrap().iter().map(|format| format["name"].as_str().unwrap()).collect();
    let known: Vec<_> = transload::image::FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(names, known);
    let qcow2 = &formats["formats"].as_array().unwrap()[0];
    assert_eq!((qcow2["read"].as_bool(), qcow2["write"].as_bool(), qcow2["streamRead"].as_bool()), (Some(true), Some(true), Some(false)));
    assert!(!qcow2["options"].to_string().contains("backing_file"), "{qcow2}");
}

#[test]
fn an_image_says_what_it_is_and_what_stands_on_it() {
    let server = Server::start();
    let (plain, image) = (server.folder.path().join("disk.raw"), server.root().join("disk.qcow2"));
    let files = server.folder.path().join("files");
    fs::create_dir_all(files.join("etc")).unwrap();
    fs::write(files.join("etc/os-release"), "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").unwrap();
    for index in 0..5 {
        fs::write(files.join(format!("etc/{index}.conf")), vec![b'x'; index]).unwrap();
    }
    let filesystem = server.folder.path().join("fs.raw");
    fs::File::create(&filesystem).unwrap().set_len(16 << 20).unwrap();
    witness::must("mke2fs", ["-q", "-t", "ext4", "-F", "-L", "rootfs", "-d", &files.to_string_lossy(), &filesystem.to_string_lossy()]);
    let script = server.folder.path().join("table");
    fs::write(&script, "label: gpt\nstart=2048,size=32768,type=L,name=system\n").unwrap();
    fs::File::create(&plain).unwrap().set_len(20 << 20).unwrap();
    witness::must("sh", ["-c", &format!("sfdisk -q {} < {} && dd if={} of={} bs=1M seek=1 conv=notrunc status=none", plain.display(), script.display(), filesystem.display(), plain.display())]);
    witness::convert(&plain, "raw", &image, "qcow2", "");

    let info = server.get("/v1/images/info?path=disk.qcow2").json();
    assert_eq!((info["format"].as_str(), info["virtualSize"].as_u64()), (Some("qcow2"), Some(20 << 20)), "{info}");
    assert_eq!(info["fileSize"].as_u64(), Some(fs::metadata(&image).unwrap().len()));
    let found = server.get("/v1/images/inspect?path=disk.qcow2").json();
    assert_eq!((found["table"].as_str(), found["volumes"][0]["name"].as_str()), (Some("gpt"), Some("1")), "{found}");
    assert_eq!(found["volumes"][0]["contents"]["type"], "ext4");
    assert_eq!(found["volumes"][0]["partition"]["label"], "system");
    assert_eq!(found["systems"][0]["name"], "Debian GNU/Linux 12 (bookworm)");
    let tree = server.get("/v1/images/tree?path=disk.qcow2&folder=/etc&limit=4").json();
    let names = |tree: &serde_json::Value| -> Vec<String> {
        tree["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&tree), ["0.conf", "1.conf", "2.conf", "3.conf"], "{tree}");
    assert_eq!(tree["entries"][3]["size"], 3);
    let rest = server.get(&format!("/v1/images/tree?path=disk.qcow2&volume=1&folder=/etc&after={}", tree["next"].as_str().unwrap())).json();
    assert_eq!(names(&rest), ["4.conf", "os-release"]);
    assert!(rest["next"].is_null());
    assert_eq!(server.get("/v1/images/tree?path=disk.qcow2&folder=/none").status, 404);
    assert_eq!(server.get("/v1/images/tree?path=disk.qcow2&volume=7").status, 400);
    assert_eq!(server.get("/v1/images/tree?path=disk.qcow2&folder=/etc/0.conf").status, 400);
    assert_eq!(server.get("/v1/images/info").status, 400);

    let kept = server.curl("/v1/uploads?name=my%20disk", &["-X", "POST", "-H", "content-type: application/octet-stream", "-T", &image.to_string_lossy()]);
    assert_eq!(kept.status, 201);
    let id = kept.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/v1/images/inspect?upload={id}")).json()["volumes"], found["volumes"]);
    assert_eq!(server.get("/v1/images/info?upload=..%2Fdisk.qcow2").status, 400);
}

#[test]
fn uploads_are_kept_listed_and_removed() {
    let server = Server::start();
    let file = server.folder.path().join("file");
    fs::write(&file, b"some bytes").unwrap();
    let digest = witness::must("sha256sum", [&file]).split(' ').next().unwrap().to_owned();
    let first = server.post_file("/v1/uploads?name=a", &file).json();
    assert_eq!((first["size"].as_u64(), first["digest"]["hex"].as_str(), first["name"].as_str()), (Some(10), Some(&*digest), Some("a")));
    let second = server.post_file("/v1/uploads", &file).json();
    let list = server.get("/v1/uploads").json();
    assert_eq!(list["uploads"].as_array().unwrap().len(), 2);
    let route = format!("/v1/uploads/{}", first["id"].as_str().unwrap());
    assert_eq!(server.get(&route).json(), first);
    assert_eq!(server.curl(&route, &["-X", "DELETE"]).status, 204);
    assert_eq!(server.curl(&route, &["-X", "DELETE"]).status, 404);
    assert_eq!(server.get(&route).status, 404);
    assert_eq!(server.get("/v1/uploads").json()["uploads"], serde_json::json!([second]));
    fs::write(&file, b"").unwrap();
    assert_eq!(server.post_file("/v1/uploads", &file).status, 400);
    assert_eq!(fs::read_dir(server.root().join(".transload-uploads")).unwrap().count(), 2);
}

#[test]
fn folders_are_listed_page_by_page_and_files_fetched_in_ranges() {
    let server = Server::start();
    fs::create_dir(server.root().join("sub")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(server.root().join("sub").join(name), vec![name.as_bytes()[0]; 1000]).unwrap();
    }
    fs::create_dir(server.root().join(".disk.1234567890abcdef.partial")).unwrap();
    let names = |route: &str| -> Vec<String> {
        server.get(route).json()["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/v1/files"), ["sub"]);
    assert_eq!(names("/v1/files?path=sub&limit=2"), ["sub/a", "sub/b"]);
    assert_eq!(names("/v1/files?path=sub&limit=2&after=b"), ["sub/c"]);
    assert_eq!(server.get("/v1/files?path=none").status, 404);
    assert_eq!(server.get("/v1/files?limit=0").status, 400);

    let bytes = Random::new(7).bytes(3 << 20);
    fs::write(server.root().join("file"), &bytes).unwrap();
    let whole = server.get("/v1/files/content?path=file");
    assert!(whole.body == bytes);
    let etag = whole.headers.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let part = server.curl("/v1/files/content?path=file", &["-r", "1000000-1999999", "-H", &format!("if-range: {etag}")]);
    assert_eq!(part.status, 206);
    assert!(part.headers.contains("content-range: bytes 1000000-1999999/3145728"), "{}", part.headers);
    assert!(part.body == bytes[1_000_000..2_000_000]);
    let changed = server.curl("/v1/files/content?path=file", &["-r", "0-9", "-H", "if-range: \"other\""]);
    assert_eq!((changed.status, changed.body.len()), (200, 3 << 20));
    assert_eq!(server.curl("/v1/files/content?path=file", &["-r", "9999999-"]).status, 416);
    assert_eq!(server.get("/v1/files/content?path=sub").status, 400);
}
