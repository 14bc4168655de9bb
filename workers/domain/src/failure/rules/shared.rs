//! Words of the operating system, which come through every package manager.

use super::super::causes as is;
use super::{Rule, rule};

pub(super) const RULES: &[Rule] = &[
    rule("no-space", &is::DISK_FULL, "No space left on device"),
    rule("quota", &is::DISK_FULL, "Disk quota exceeded"),
    rule("errno-28", &is::DISK_FULL, "[Errno 28]"),
    rule("read-only", &is::READ_ONLY_FILESYSTEM, "Read-only file system"),
    rule("io-error", &is::IO_ERROR, "Input/output error"),
    rule("no-memory", &is::OUT_OF_MEMORY, "Cannot allocate memory"),
    rule("no-memory-errno", &is::OUT_OF_MEMORY, "[Errno 12]"),
    rule("out-of-memory", &is::OUT_OF_MEMORY, "Out of memory"),
    rule("bad-alloc", &is::OUT_OF_MEMORY, "std::bad_alloc"),
    rule("memory-error", &is::OUT_OF_MEMORY, "^MemoryError"),
    rule("no-command", &is::TOOL_MISSING, "^{_}: {command}: command not found"),
    rule("no-shell-command", &is::TOOL_MISSING, "^sh: {_}: {command}: not found$"),
];
