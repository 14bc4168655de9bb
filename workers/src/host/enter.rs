//! How a command gets inside a root directory: which words go in front of its own. Runs nothing.

/// Exit code by which the script below says that it never came to the command.
pub(crate) const SETUP_FAILED: i32 = 125;

/// What the script writes in front of its reason.
pub(crate) const SETUP_MARK: &str = "patchloom cannot enter the root: ";

/// Where a shared directory of this machine is seen inside the root.
pub(crate) const SHARED_INSIDE: &str = "/mnt";

/// Runs as the first process of new mount and process namespaces, so that nothing stays mounted and no daemon that a
/// maintainer script starts stays alive when it ends, however it ends. All that varies comes as arguments.
///
/// Inside, the root is a mount point: rpm can give its scripts mounts of their own only then, and fails all of them else.
/// The shell stays and waits (no `exec`): as process 1 it would be deaf to SIGTERM, its child is not.
const ENTER: &str = r#"
fail() { echo "patchloom cannot enter the root: $1" >&2; exit 125; }
root=$1; access=$2; shared=$3; shift 3
mount --rbind "$root" "$root" 2>/dev/null || fail "bind $root"
if [ "$access" = read ]; then
  mount -o remount,bind,ro "$root" 2>/dev/null || fail "make $root read-only"
  mount -t tmpfs -o mode=1777,size=256m tmpfs "$root/tmp" 2>/dev/null || fail "mount a tmpfs on $root/tmp"
fi
mount -t proc proc "$root/proc" 2>/dev/null || fail "mount proc on $root/proc"
if ! { [ -c "$root/dev/null" ] && : <"$root/dev/null" && [ -c "$root/dev/urandom" ]; } 2>/dev/null; then
  mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev" 2>/dev/null || fail "mount a tmpfs on $root/dev"
  for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node" 2>/dev/null || fail "bind /dev/$node"
  done
  ln -s /proc/self/fd "$root/dev/fd"; ln -s fd/0 "$root/dev/stdin"
  ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
fi
[ -z "$shared" ] || mount --bind "$shared" "$root/mnt" 2>/dev/null || fail "bind $shared on $root/mnt"
chroot "$root" "$@"
exit $?
"#;

/// The argv that runs `argv` inside `root`.
pub(crate) fn chrooted(root: &str, read_only: bool, shared: Option<&str>, argv: &[String]) -> Vec<String> {
    let access = if read_only { "read" } else { "write" };
    let fixed =
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER];
    let mut words: Vec<String> = fixed.iter().map(|&word| word.to_owned()).collect();
    words.extend(["enter", root, access, shared.unwrap_or("")].map(str::to_owned));
    words.extend_from_slice(argv);
    words
}

/// The argv that runs a tool of this machine on the databases of `root` from outside, for readers without root rights;
/// `None` for a tool that cannot.
pub(crate) fn from_outside(root: &str, argv: &[String]) -> Option<Vec<String>> {
    let (tool, rest) = argv.split_first()?;
    let options = match tool.as_str() {
        "dpkg" | "dpkg-query" => vec![format!("--admindir={root}/var/lib/dpkg")],
        "apt-get" | "apt-cache" | "apt-mark" | "apt-config" => [
            format!("Dir={root}"),
            format!("Dir::State::status={root}/var/lib/dpkg/status"),
            format!("Dir::Etc::Trusted={root}/etc/apt/trusted.gpg"),
            // Its caches belong to root, and nothing may change there.
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
        ]
        .into_iter()
        .flat_map(|option| ["-o".to_owned(), option])
        .collect(),
        _ => return None,
    };
    let mut words = vec![tool.clone()];
    words.extend(options);
    words.extend_from_slice(rest);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_never_part_of_the_script() {
        let argv = ["apt-get".to_owned(), "x; rm -rf /".to_owned()];
        let words = chrooted("/a b'c", true, None, &argv);
        assert_eq!(words.iter().filter(|word| word.contains("rm -rf")).count(), 1);
        assert_eq!(words[words.len() - 6..], ["enter", "/a b'c", "read", "", "apt-get", "x; rm -rf /"]);
    }

    #[test]
    fn the_script_and_its_reader_agree_on_how_a_failure_looks() {
        assert!(ENTER.contains(SETUP_MARK));
        assert!(ENTER.contains(&format!("exit {SETUP_FAILED}")));
        assert!(ENTER.contains(SHARED_INSIDE));
    }
}
