//! Configuration layers, and the limits of a project file.

use super::*;
use crate::args::ServerArgs;

fn layers(env: &[(&str, &str)], project: &str, user: &str) -> (tempfile::TempDir, Layers) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("my Site").join("dist");
    std::fs::create_dir_all(&here).unwrap();
    if !project.is_empty() {
        std::fs::write(folder.path().join("my Site").join(PROJECT_FILE), project).unwrap();
    }
    let user_file = folder.path().join("user.toml");
    std::fs::write(&user_file, user).unwrap();
    let env = env.iter().copied().collect();
    let layers = Layers::read(env, here, Some(&user_file)).unwrap();
    (folder, layers)
}

#[test]
fn flag_wins_over_the_environment_over_the_project_over_the_user() {
    let (env, project, user) = (
        ("PMX_SERVER", "env.example"),
        "server = \"project.example\"",
        "server = \"user.example\"",
    );
    for (flag, env, project, user, expected) in [
        (
            Some("flag.example"),
            Some(env),
            project,
            user,
            "https://flag.example",
        ),
        (None, Some(env), project, user, "https://env.example"),
        (
            None,
            None,
            "server = \"user.example\"",
            user,
            "https://user.example",
        ),
        (None, None, "", user, "https://user.example"),
        (None, None, "", "", server::DEFAULT),
        (None, Some(("PMX_SERVER", "")), "", "", server::DEFAULT),
    ] {
        let (_folder, layers) = layers(env.as_slice(), project, user);
        assert_eq!(layers.server(flag).unwrap().as_str(), expected);
    }
}

#[test]
fn folder_is_relative_to_the_file_that_names_it() {
    let (root, named) = layers(&[], "dir = \"out\"\nexclude = [\"*.map\"]", "");
    let project = root.path().join("my Site");
    let scan = ScanArgs {
        exclude: vec!["x".into()],
        ..ScanArgs::default()
    };
    let folder = named.folder_at(None, &scan).unwrap();
    assert_eq!(folder.dir, project.join("out"));
    assert_eq!(folder.exclude, ["*.map", "x"]);
    assert_eq!(
        named.folder_at(Some(Path::new("a")), &scan).unwrap().dir,
        project.join("dist/a")
    );
    let (root, silent) = layers(&[], "space = \"x\"", "");
    assert_eq!(
        silent.folder_at(None, &scan).unwrap().dir,
        root.path().join("my Site/.pathmx")
    );
}

#[test]
fn site_is_named_after_its_folder() {
    let (_root, layers) = layers(&[], "", "");
    let folder = layers
        .folder_at(Some(Path::new(".")), &ScanArgs::default())
        .unwrap();
    assert_eq!(layers.space(None, &folder.dir).unwrap().as_str(), "my-site");
    assert_eq!(
        layers.space(Some("docs"), &folder.dir).unwrap().as_str(),
        "docs"
    );
    for (name, expected) in [
        ("A  b__c", "a-b-c"),
        ("--x--", "x"),
        ("Übung 1", "bung-1"),
        ("é", ""),
    ] {
        assert_eq!(label(name), expected);
    }
    assert_eq!(space_of_folder(Path::new("/")).unwrap_err().exit(), 2);
    let reserved = Path::new("/nowhere/admin/dist");
    assert_eq!(
        space_of_folder(reserved).unwrap_err().code,
        Code::NameInvalid
    );
}

#[test]
fn token_comes_from_the_environment_and_goes_only_where_it_should() {
    let both = [("PMX_TOKEN", "one"), ("PATHMX_PUBLISH_TOKEN", "two")];
    let token = |layers: &Layers, server: &str, data: Option<PathBuf>| {
        let at = ServerArgs {
            server: Some(server.into()),
            data,
            ..ServerArgs::default()
        };
        let args = at.site("x");
        let found = layers.site(&args, Path::new("/x")).unwrap().token;
        found.map(|token| token.reveal().to_owned())
    };
    let (_a, first) = layers(&both, "", "");
    assert_eq!(token(&first, "example.org", None).as_deref(), Some("one"));
    let (_b, second) = layers(&both[1..], "", "");
    assert_eq!(token(&second, "example.org", None).as_deref(), Some("two"));
    // The secret of the host on this machine is only for this machine.
    let (root, none) = layers(&[], "", "");
    let secret = root.path().join(crate::host::SECRET_FILE);
    std::fs::write(&secret, "local").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    }
    let data = || Some(root.path().to_owned());
    assert_eq!(
        token(&none, "localhost:1", data()).as_deref(),
        Some("local")
    );
    assert_eq!(token(&none, "example.org", data()), None);
    assert_eq!(token(&none, "http://10.0.0.1", data()), None);
}

/// A secret of the host on this machine, in a folder named `data` below `root`.
#[cfg(unix)]
fn secret(root: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let data = root.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let file = data.join(crate::host::SECRET_FILE);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    data
}

#[cfg(unix)]
#[test]
fn token_never_goes_to_a_server_that_only_the_project_names() {
    let token = ("PMX_TOKEN", "t");
    let (evil, here) = ("server = \"evil.example\"", "server = \"localhost:9\"");
    let mine = "server = \"evil.example\"";
    for (env, project, user, expected) in [
        (&[token][..], evil, "", Err(Code::Untrusted)),
        (&[], evil, "", Err(Code::Untrusted)),
        (&[token], here, "", Err(Code::Untrusted)),
        // The secret of the user's own host is a token too.
        (&[("HAS_SECRET", "1")], here, "", Err(Code::Untrusted)),
        (&[], here, "", Ok(None)),
        (&[token], evil, mine, Ok(Some("t"))),
        (
            &[token],
            evil,
            "servers = [\"a\", \"evil.example\"]",
            Ok(Some("t")),
        ),
        (
            &[token],
            "server = \"http://evil.example\"",
            mine,
            Err(Code::Untrusted),
        ),
        (
            &[token],
            "server = \"evil.example:444\"",
            mine,
            Err(Code::Untrusted),
        ),
        // The default server is the user's choice only if the user names no other.
        (&[token], "server = \"127.0.0.1:8787\"", "", Ok(Some("t"))),
        (
            &[token],
            "server = \"127.0.0.1:8787\"",
            mine,
            Err(Code::Untrusted),
        ),
        (
            &[token, ("PMX_SERVER", "evil.example")],
            evil,
            "",
            Ok(Some("t")),
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        if env.iter().any(|(name, _)| *name == "HAS_SECRET") {
            secret(root.path(), "local");
        }
        let (_folder, layers) = layers(env, project, user);
        let at = ServerArgs {
            data: Some(data),
            ..ServerArgs::default()
        };
        let args = at.site("x");
        let site = layers.site(&args, Path::new("/x"));
        let found = site.map(|site| site.token.map(|token| token.reveal().to_owned()));
        let found = found.map_err(|failure| {
            assert!(failure.hint.contains("PMX_SERVER"), "{failure:?}");
            assert_eq!(failure.exit(), 4);
            failure.code
        });
        let expected = expected.map(|token| token.map(str::to_owned));
        assert_eq!(found, expected, "{env:?} {project} {user}");
    }
}

#[cfg(unix)]
#[test]
fn project_file_publishes_nothing_outside_of_the_project() {
    use std::os::unix::fs::symlink;
    let scan = ScanArgs::default();
    for (dir, is_allowed) in [
        ("out", true),
        (".", true),
        ("link-inside", true),
        ("missing", true),
        ("..", false),
        ("../other", false),
        ("/", false),
        ("link-outside", false),
        ("link-outside/below", false),
        ("home", false),
        ("home/.ssh", false),
        ("home/.ssh/deep", false),
    ] {
        let project = format!("dir = \"{dir}\"");
        let (root, mut layers) = layers(&[], &project, "");
        let at = |path: &str| root.path().join("my Site").join(path);
        for folder in ["out", "home/.ssh/deep", "../other/below"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(at("out"), at("link-inside")).unwrap();
        symlink(root.path().join("other"), at("link-outside")).unwrap();
        layers.home = (dir != ".").then(|| at("home"));
        let found = layers.folder_at(None, &scan).map(drop);
        let found = found.map_err(|failure| failure.code);
        let expected = if is_allowed {
            Ok(())
        } else {
            Err(Code::Untrusted)
        };
        assert_eq!(found, expected, "{dir}");
    }
    // The default folder may be a link from the checkout.
    let (root, mut layers) = layers(&[], "", "");
    let here = root.path().join("my Site/dist");
    std::fs::create_dir_all(root.path().join(".ssh")).unwrap();
    symlink(root.path().join(".ssh"), here.join(DEFAULT_DIR)).unwrap();
    symlink(root.path().join(".ssh"), here.join("public")).unwrap();
    layers.home = Some(root.path().to_owned());
    let refused = |dir| {
        layers
            .folder_at(dir, &scan)
            .map(drop)
            .map_err(|failure| failure.code)
    };
    assert_eq!(refused(None), Err(Code::Untrusted));
    // The user chose the name, but not the target of the link.
    assert_eq!(refused(Some(Path::new("public"))), Err(Code::Untrusted));
    let chosen = root.path().canonicalize().unwrap().join(".ssh");
    assert_eq!(refused(Some(&chosen)), Ok(()));
}

#[cfg(unix)]
#[test]
fn project_file_names_no_data_folder_outside_of_the_project() {
    let root = tempfile::tempdir().unwrap();
    let outside = secret(root.path(), "local");
    for data in ["../x", outside.to_str().unwrap(), "link", "inside"] {
        let (folder, layers) = layers(&[], &format!("data = \"{data}\""), "");
        let project = folder.path().join("my Site");
        std::os::unix::fs::symlink(&outside, project.join("link")).unwrap();
        std::fs::create_dir(project.join("inside")).unwrap();
        let link = project.join("inside").join(crate::host::SECRET_FILE);
        std::os::unix::fs::symlink(outside.join(crate::host::SECRET_FILE), link).unwrap();
        let refused = layers.data(None).map_err(|failure| failure.code);
        assert_eq!(refused, Err(Code::Untrusted), "{data}");
        assert!(
            layers.data(Some(Path::new(data))).is_ok(),
            "the user named {data}"
        );
    }
    let (_folder, layers) = layers(&[], "data = \"new/data\"", "");
    assert!(layers.data(None).is_ok());
}
