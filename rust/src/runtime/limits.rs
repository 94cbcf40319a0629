//! Limits of memory, besides that of the machine: those of the process and of the control groups that it is in.

use std::fs::read_to_string;
use std::path::Path;

/// Control groups of one version: the folders that they may be in, the files of their limit and usage, and the part of
/// the usage that can be had back, as nobody reads those pages of files.
struct Groups {
    folders: &'static [&'static str],
    limit: &'static str,
    usage: &'static str,
    spare: &'static str,
}

const UNIFIED: Groups = Groups {
    folders: &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    limit: "memory.max",
    usage: "memory.current",
    spare: "inactive_file ",
};

const LEGACY: Groups = Groups {
    folders: &["sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    spare: "total_inactive_file ",
};

/// Limits of the process, and the memory that counts against them.
const OWN: [(&str, &str); 2] = [("Max address space", "VmSize:"), ("Max data size", "VmData:")];

/// Bytes that this process can still take by the limits of its own address space and data, and by those of its control
/// groups, of both versions; None where nothing limits it, or the system is another one than Linux. The memory of the
/// machine itself may be less.
///
/// ```
/// let options = attngrad::Options { memory: attngrad::limited_memory(), ..attngrad::Options::default() };
/// assert_eq!(options.threads, None);
/// ```
pub fn limited_memory() -> Option<u64> {
    left_below(Path::new("/"))
}

fn left_below(root: &Path) -> Option<u64> {
    own(root).into_iter().chain(groups(root)).min()
}

fn own(root: &Path) -> Vec<u64> {
    let read = |name| read_to_string(root.join(name)).unwrap_or_default();
    let (limits, status) = (read("proc/self/limits"), read("proc/self/status"));
    // The word in the place of a number is "unlimited".
    let left = |(limit, used)| Some(after(&limits, limit)?.saturating_sub(1024 * after(&status, used)?));
    OWN.into_iter().filter_map(left).collect()
}

fn groups(root: &Path) -> Vec<u64> {
    let mut left = Vec::new();
    for line in read_to_string(root.join("proc/self/cgroup")).unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let kind = match controllers {
            "" => &UNIFIED,
            _ if controllers.split(',').any(|one| one == "memory") => &LEGACY,
            _ => continue,
        };
        for folder in kind.folders {
            // Each group above counts, too; and a container may see its own as the root, whatever path the host has.
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                left.extend(of_group(&root.join(folder).join(group), kind));
            }
        }
    }
    left
}

/// Limit less usage; None without a group or a limit: the word "max".
fn of_group(folder: &Path, kind: &Groups) -> Option<u64> {
    let read = |name| read_to_string(folder.join(name)).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let spare = after(&read("memory.stat")?, kind.spare).unwrap_or(0);
    Some(number(kind.limit)?.saturating_add(spare).saturating_sub(number(kind.usage)?))
}

/// The number after a name at the start of a line.
fn after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, remove_dir_all, write};
    use std::path::PathBuf;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A made-up system in a folder of its own, which goes with it.
    struct System(PathBuf);

    impl System {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("attngrad-limits-{}-{name}", std::process::id()));
            create_dir_all(root.join("proc/self")).expect("a folder");
            System(root)
        }

        fn process(&self, name: &str, text: &str) {
            write(self.0.join("proc/self").join(name), text).expect("a file");
        }

        fn group(&self, path: &str, kind: &Groups, limit: &str, used: u64, spare: u64) {
            let folder = self.0.join(kind.folders[0]).join(path);
            create_dir_all(&folder).expect("a folder");
            write(folder.join(kind.limit), format!("{limit}\n")).expect("a file");
            write(folder.join(kind.usage), format!("{used}\n")).expect("a file");
            write(folder.join("memory.stat"), format!("anon 5\n{}{spare}\nfile 7\n", kind.spare)).expect("a file");
        }

        fn left(&self) -> Option<u64> {
            left_below(&self.0)
        }
    }

    impl Drop for System {
        fn drop(&mut self) {
            let _ = remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let versions = [("0::/a/b\n", UNIFIED), ("4:cpu,memory:/a/b\n2:cpu:/x\n0::/\n", LEGACY)];
        for (number, (line, kind)) in versions.into_iter().enumerate() {
            let system = System::new(&format!("groups-{number}"));
            system.process("cgroup", line);
            assert_eq!(system.left(), None);
            system.group("a/b", &kind, "max", GIB, 0);
            assert_eq!(system.left(), None);
            system.group("a/b", &kind, &(8 * GIB).to_string(), 3 * GIB, 0);
            assert_eq!(system.left(), Some(5 * GIB));
            // The spare part of the usage may be had back.
            system.group("a", &kind, &(4 * GIB).to_string(), 3 * GIB, GIB / 2);
            assert_eq!(system.left(), Some(3 * GIB / 2));
            // A container sees its own group as the root.
            system.group("", &kind, &GIB.to_string(), 2 * GIB, 0);
            assert_eq!(system.left(), Some(0));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_limits_nothing() {
        for (number, text) in ["", "nonsense", "0:::\n1\n", "0::/../..\n"].into_iter().enumerate() {
            let system = System::new(&format!("unreadable-{number}"));
            assert_eq!(system.left(), None);
            system.process("cgroup", text);
            system.process("limits", text);
            assert_eq!(system.left(), None, "{text:?}");
            system.group("", &UNIFIED, "none", 0, 0);
            assert_eq!(system.left(), None, "{text:?}");
        }
    }

    #[test]
    fn limits_of_the_process_count() {
        let system = System::new("process");
        system.process("status", "Name:\tx\nVmSize:\t    2048 kB\nVmData:\t    1024 kB\n");
        let limits = |space: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max data size             {data}            unlimited            bytes\n\
                 Max address space         {space}            unlimited            bytes\n"
            )
        };
        system.process("limits", &limits("unlimited", "unlimited"));
        assert_eq!(system.left(), None);
        system.process("limits", &limits("4194304", "unlimited"));
        assert_eq!(system.left(), Some(2 << 20));
        system.process("limits", &limits("4194304", "2097152"));
        assert_eq!(system.left(), Some(1 << 20));
        system.process("limits", &limits("4194304", "7"));
        assert_eq!(system.left(), Some(0));
    }

    #[test]
    fn a_taken_group_leaves_nothing() {
        let system = System::new("full");
        system.process("cgroup", "0::/\n");
        system.group("", &UNIFIED, &GIB.to_string(), 4 * GIB, GIB);
        assert_eq!(system.left(), Some(0));
    }
}
