/* The first process of the single-file program: unpacks the runtime and the bundles once, then becomes them.
 *
 * File layout:  [this ELF][payload bytes ...][manifest text][trailer, 32 bytes]
 * Trailer:      "NEPHOS-1", then little-endian u64 manifest offset, u64 manifest length, u64 whole file length.
 * Manifest:     one record per line, in this order of kinds:
 *     dir  NAME                      start of a group of files; NAME holds the hash of the group's contents
 *     file MODE OFFSET SIZE NAME     a file of the group that was started last
 *     link NAME TARGET               a symbolic link in that group
 *     arg  TEXT                      one argument of the runtime, before the entry script
 *     run  DIR PROGRAM SCRIPT        what to execute, and the entry script, both in group DIR
 *
 * A group is written to a staging directory and renamed, so that it is seen whole or not at all; groups that
 * are there already are checked by the size of each file and mended file by file, each by rename as well.
 * Directories belong to the caller, mode 0700; anything else is refused and the next candidate is tried.
 * Same process id throughout: execv replaces this program by the runtime.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGS = 64, MAX_MANIFEST = 1 << 20, FAILURE = 127, STALE_SECONDS = 600 };

struct trailer {
    char magic[8];
    uint64_t manifest_offset;
    uint64_t manifest_length;
    uint64_t file_length;
};

static int self_fd = -1;
static char *manifest;
static char reason[PATH_MAX + 256]; /* why the last candidate was refused */

static int fail(const char *format, ...) {
    int error = errno;
    va_list list;
    va_start(list, format);
    int used = vsnprintf(reason, sizeof reason, format, list);
    va_end(list);
    if (error != 0 && used > 0 && (size_t)used < sizeof reason)
        snprintf(reason + used, sizeof reason - (size_t)used, ": %s", strerror(error));
    return -1;
}

/* Whoever ends the program while the runtime starts must not get another end than later: the program lets these signals
 * through (src/main.ts) when somebody listens. */
static void hold_signals(void) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
}

static void die(const char *what) {
    fprintf(stderr, "nephos: %s\n", what);
    exit(FAILURE);
}

/* Joins with '/', fails on truncation. */
static int join(char out[PATH_MAX], const char *left, const char *right) {
    int used = snprintf(out, PATH_MAX, "%s/%s", left, right);
    if (used < 0 || used >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return fail("path below '%.100s...'", left);
    }
    return 0;
}

static void read_manifest(void) {
    struct stat status;
    struct trailer trailer;
    self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self_fd < 0 || fstat(self_fd, &status) != 0) die("cannot open /proc/self/exe");
    uint64_t length = (uint64_t)status.st_size;
    if (length < sizeof trailer ||
        pread(self_fd, &trailer, sizeof trailer, (off_t)(length - sizeof trailer)) != (ssize_t)sizeof trailer ||
        memcmp(trailer.magic, "NEPHOS-1", sizeof trailer.magic) != 0)
        die("this file has no payload; it was not made by the build script");
    if (trailer.file_length != length || trailer.manifest_length > MAX_MANIFEST ||
        trailer.manifest_offset > length - sizeof trailer ||
        trailer.manifest_length != length - sizeof trailer - trailer.manifest_offset)
        die("this file is damaged (cut off or appended to)");
    manifest = malloc(trailer.manifest_length + 1);
    if (manifest == NULL) die("out of memory");
    if (pread(self_fd, manifest, trailer.manifest_length, (off_t)trailer.manifest_offset) !=
        (ssize_t)trailer.manifest_length)
        die("cannot read the payload");
    manifest[trailer.manifest_length] = '\0';
}

/* The next line of the manifest as a fresh string in `line`; 0 at the end. */
static int next_line(const char **cursor, char line[PATH_MAX]) {
    const char *end = strchr(*cursor, '\n');
    if (end == NULL) return 0;
    size_t length = (size_t)(end - *cursor);
    if (length >= PATH_MAX) die("damaged manifest");
    memcpy(line, *cursor, length);
    line[length] = '\0';
    *cursor = end + 1;
    return 1;
}

static int copy_bytes(int out, uint64_t from, uint64_t length) {
    off_t offset = (off_t)from;
    int by_range = 1;
    while (length > 0) {
        size_t chunk = length > (1u << 30) ? (1u << 30) : (size_t)length;
        ssize_t done = by_range ? copy_file_range(self_fd, &offset, out, NULL, chunk, 0)
                                : sendfile(out, self_fd, &offset, chunk);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0 && by_range) { /* other file system, or a kernel without it */
            by_range = 0;
            continue;
        }
        if (done <= 0) {
            if (done == 0) errno = EIO;
            return -1;
        }
        length -= (uint64_t)done;
    }
    return 0;
}

/* Writes directory/name through a temporary file and a rename. */
static int place_file(const char *directory, const char *name, mode_t mode, uint64_t offset, uint64_t size) {
    char part[PATH_MAX], path[PATH_MAX], hidden[64];
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = (uint64_t)getpid();
    snprintf(hidden, sizeof hidden, ".part-%ld-%llx", (long)getpid(), (unsigned long long)random);
    if (join(part, directory, hidden) != 0 || join(path, directory, name) != 0) return -1;
    int out = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (out < 0) return fail("cannot create '%s'", part);
    int bad = copy_bytes(out, offset, size) != 0 || fchmod(out, mode) != 0;
    if (bad) fail("cannot write '%s'", part);
    if (close(out) != 0 && !bad) bad = 1, fail("cannot write '%s'", part);
    if (!bad && rename(part, path) != 0) bad = 1, fail("cannot rename to '%s'", path);
    if (bad) unlink(part);
    return bad ? -1 : 0;
}

static int place_link(const char *directory, const char *name, const char *target) {
    char path[PATH_MAX], seen[PATH_MAX];
    if (join(path, directory, name) != 0) return -1;
    ssize_t length = readlink(path, seen, sizeof seen - 1);
    if (length >= 0) {
        seen[length] = '\0';
        if (strcmp(seen, target) == 0) return 0;
        unlink(path);
    }
    if (symlink(target, path) != 0 && errno != EEXIST) return fail("cannot create '%s'", path);
    return 0;
}

/* Handles the lines of one group: writes each entry, or with `only_bad` those that are not as they should be. */
static int fill_group(const char *cursor, const char *directory, int only_bad) {
    char line[PATH_MAX], path[PATH_MAX];
    while (next_line(&cursor, line)) {
        unsigned mode;
        unsigned long long offset, size;
        int name_at = 0;
        struct stat status;
        if (sscanf(line, "file %o %llu %llu %n", &mode, &offset, &size, &name_at) == 3 && name_at > 0) {
            const char *name = line + name_at;
            if (only_bad) {
                if (join(path, directory, name) != 0) return -1;
                if (lstat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
                    (unsigned long long)status.st_size == size && (status.st_mode & 07777) == mode)
                    continue;
            }
            if (place_file(directory, name, mode, offset, size) != 0) return -1;
        } else if (strncmp(line, "link ", 5) == 0) {
            char *target = strchr(line + 5, ' ');
            if (target == NULL) die("damaged manifest");
            *target++ = '\0';
            if (place_link(directory, line + 5, target) != 0) return -1;
        } else {
            break; /* the next group, or what follows the groups */
        }
    }
    return 0;
}

/* 0 if the path is a directory that only the caller can change. */
static int check_owned(const char *path, int anchor) {
    struct stat status;
    if ((anchor ? stat : lstat)(path, &status) != 0) return fail("cannot use '%s'", path);
    errno = 0;
    if (!S_ISDIR(status.st_mode)) return fail("'%s' is not a directory", path);
    if (status.st_uid != geteuid()) return fail("'%s' belongs to another user", path);
    if (status.st_mode & 022) return fail("'%s' can be changed by others", path);
    return 0;
}

/* Removes a staging directory: it holds only files and links. */
static void remove_staging(const char *directory) {
    char path[PATH_MAX];
    DIR *list = opendir(directory);
    if (list == NULL) return;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (join(path, directory, entry->d_name) == 0) unlink(path); /* fails on "." and ".." */
    closedir(list);
    rmdir(directory);
}

/* Staging directories of starts that were killed in the middle. Only entries of `base`, which is the caller's own. */
static void remove_stale(const char *base) {
    DIR *list = opendir(base);
    if (list == NULL) return;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char path[PATH_MAX];
        struct stat status;
        if (strncmp(entry->d_name, ".new-", 5) != 0 || join(path, base, entry->d_name) != 0) continue;
        if (lstat(path, &status) == 0 && time(NULL) - status.st_mtime > STALE_SECONDS) remove_staging(path);
    }
    closedir(list);
}

static int provide_group(const char *base, const char *name, const char *lines) {
    char directory[PATH_MAX], staging[PATH_MAX];
    struct stat status;
    if (join(directory, base, name) != 0) return -1;
    if (lstat(directory, &status) != 0) {
        remove_stale(base);
        if (join(staging, base, ".new-XXXXXX") != 0) return -1;
        if (mkdtemp(staging) == NULL) return fail("cannot create '%s'", staging); /* mode 0700 */
        if (fill_group(lines, staging, 0) != 0) {
            remove_staging(staging);
            return -1;
        }
        if (rename(staging, directory) == 0) return 0;
        int error = errno;
        remove_staging(staging);
        errno = error;
        if (error != EEXIST && error != ENOTEMPTY) return fail("cannot rename to '%s'", directory);
        /* somebody else was quicker: check theirs below */
    }
    if (check_owned(directory, 0) != 0) return -1;
    return fill_group(lines, directory, 1);
}

/* Like mkdir -p; what is created is private. */
static int make_directory(const char *path) {
    char partial[PATH_MAX];
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return 0;
    if (errno == ENOENT && strlen(path) < sizeof partial) {
        strcpy(partial, path);
        for (char *slash = strchr(partial + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
            *slash = '\0';
            if (mkdir(partial, 0700) != 0 && errno != EEXIST) break;
            *slash = '/';
        }
        if (mkdir(path, 0700) == 0 || errno == EEXIST) return 0;
    }
    return fail("cannot create '%s'", path);
}

struct candidate {
    const char *anchor; /* directory named by the environment, or a well-known one; NULL: not set */
    const char *below;  /* what to create in it */
    int is_mine;        /* the anchor itself must belong to the caller, and is created if missing */
};

/* Unpacks below the candidate and executes; comes back only on failure, with `reason` set. */
static void try_base(const struct candidate *candidate, int argc, char **argv) {
    const char *anchor = candidate->anchor;
    char base[PATH_MAX], path[PATH_MAX], line[PATH_MAX], program[PATH_MAX], script[PATH_MAX], home[PATH_MAX];
    char *arguments[MAX_ARGS], **all;
    int count = 0;
    const char *cursor = manifest;

    errno = 0;
    if (anchor[0] != '/') {
        fail("'%s' is not an absolute path", anchor);
        return;
    }
    if (candidate->is_mine && (make_directory(anchor) != 0 || check_owned(anchor, 1) != 0)) return;
    if (join(base, anchor, candidate->below) != 0 || make_directory(base) != 0) return;
    if (check_owned(base, 0) != 0) return;

    program[0] = '\0';
    while (next_line(&cursor, line)) {
        char group[NAME_MAX + 1], file[NAME_MAX + 1], entry[NAME_MAX + 1];
        if (sscanf(line, "dir %255s", group) == 1) {
            if (provide_group(base, group, cursor) != 0) return;
        } else if (strncmp(line, "arg ", 4) == 0) {
            if (count == MAX_ARGS) die("damaged manifest");
            arguments[count] = strdup(line + 4);
            if (arguments[count++] == NULL) die("out of memory");
        } else if (sscanf(line, "run %255s %255s %255s", group, file, entry) == 3) {
            if (join(path, base, group) != 0) return;
            const char *called = strrchr(argv[0], '/');
            called = called ? called + 1 : argv[0];
            /* Run through the link that bears the name we were called by, so that ps and pgrep show it. */
            struct stat status;
            if (*called == '\0' || *called == '.' || join(program, path, called) != 0 ||
                lstat(program, &status) != 0 || !S_ISLNK(status.st_mode))
                if (join(program, path, file) != 0) return;
            if (join(script, path, entry) != 0 || join(home, path, ".deno") != 0) return;
        }
    }
    if (program[0] == '\0') die("damaged manifest");

    all = calloc((size_t)count + (size_t)argc + 2 + MAX_ARGS, sizeof *all);
    if (all == NULL) die("out of memory");
    int used = 0;
    all[used++] = argv[0];
    for (int i = 0; i < count; i++) all[used++] = arguments[i];
    char *extra = secure_getenv("NEPHOS_DENO_FLAGS"), *rest = NULL;
    if (extra != NULL && (extra = strdup(extra)) != NULL)
        for (char *flag = strtok_r(extra, " ", &rest); flag != NULL && used < count + MAX_ARGS;
             flag = strtok_r(NULL, " ", &rest))
            all[used++] = flag;
    all[used++] = script;
    for (int i = 1; i < argc; i++) all[used++] = argv[i];
    all[used] = NULL;

    if (setenv("DENO_DIR", home, 1) != 0) die("out of memory");
    execv(program, all);
    fail("cannot execute '%s'", program);
}

int main(int argc, char **argv) {
    static char *no_name[] = {"nephos", NULL};
    char exe[PATH_MAX], user[64];
    if (argc < 1) {
        argc = 1;
        argv = no_name;
    }
    hold_signals();
    read_manifest();
    /* The runtime refuses to start in a directory that was removed; no relative path works in one anyway. */
    if (getcwd(exe, sizeof exe) == NULL && errno == ENOENT && chdir("/") != 0) die("cannot leave a removed directory");

    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0) die("cannot read the link /proc/self/exe");
    exe[length] = '\0';
    if (setenv("NEPHOS_EXE", exe, 1) != 0 || setenv("NEPHOS_ARGV0", argv[0], 1) != 0 ||
        setenv("DENO_NO_UPDATE_CHECK", "1", 1) != 0 || setenv("DENO_NO_PACKAGE_JSON", "1", 1) != 0 ||
        setenv("DENO_NO_PROMPT", "1", 1) != 0 || unsetenv("NODE_OPTIONS") != 0)
        die("out of memory");

    const char *xdg = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
    int use_home = (xdg == NULL || *xdg == '\0') && home != NULL && check_owned(home, 1) == 0;
    snprintf(user, sizeof user, "nephos-%lu", (unsigned long)geteuid());
    const struct candidate candidates[] = {
        {secure_getenv("NEPHOS_CACHE"), "run", 1},
        {xdg, "nephos/run", 1},
        {use_home ? home : NULL, ".cache/nephos/run", 1},
        {geteuid() == 0 ? "/var/cache" : NULL, "nephos", 0},
        {secure_getenv("XDG_RUNTIME_DIR"), "nephos", 1},
        {"/tmp", user, 0},
    };
    char tried[4 * PATH_MAX] = "";
    size_t end = 0;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (candidates[i].anchor == NULL || *candidates[i].anchor == '\0') continue;
        try_base(&candidates[i], argc, argv);
        int used = snprintf(tried + end, sizeof tried - end, "\n  %s", reason);
        if (used > 0 && (size_t)used < sizeof tried - end) end += (size_t)used;
    }
    fprintf(stderr, "nephos: no place to unpack to; set NEPHOS_CACHE to a directory of yours. Tried:%s\n", tried);
    return FAILURE;
}
