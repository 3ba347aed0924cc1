/* First process of the test guest: mounts, says that it is up, runs the script it was handed, powers off.
 *
 * Where the guest's kernel code runs in an instruction emulator, a fork and exec of a shell costs a tenth of a
 * second, so everything that happens at each boot is done here with plain system calls, without a C library.
 *
 * On the kernel command line:
 *     console=NAME ...      every NAME that is a device here shows the markers and gets a shell
 *     nephos.script=NAME    run /scripts/NAME
 *     nephos.stay           shells instead of powering off after the script
 * Without nephos.script, the first virtio disk that begins with "#!NEPHOS" is the script (up to its first NUL byte).
 * With neither, shells. An ACPI power button press powers off at any time.
 */
#include <linux/fcntl.h>
#include <linux/input.h>
#include <linux/reboot.h>
#include <stddef.h>

#define MAX_CONSOLES 4
#define MAX_ENVIRONMENT 32
#define SCRIPT_LIMIT (1 << 20)
#define ENOENT 2

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

enum {
    SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_ioctl = 16, SYS_dup2 = 33, SYS_nanosleep = 35,
    SYS_fork = 57, SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_setsid = 112, SYS_sync = 162,
    SYS_mount = 165, SYS_reboot = 169, SYS_finit_module = 313
};

static int open_file(const char *path, int flags) { return (int)call(SYS_open, (long)path, flags, 0700, 0, 0); }
static void close_file(int fd) { call(SYS_close, fd, 0, 0, 0, 0); }
static long read_file(int fd, void *into, size_t length) { return call(SYS_read, fd, (long)into, (long)length, 0, 0); }

void *memset(void *at, int byte, size_t length) {
    for (char *p = at; length-- > 0;) *p++ = (char)byte;
    return at;
}

void *memcpy(void *to, const void *from, size_t length) {
    char *out = to;
    for (const char *in = from; length-- > 0;) *out++ = *in++;
    return to;
}

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

static int starts_with(const char *text, const char *prefix) {
    while (*prefix)
        if (*text++ != *prefix++) return 0;
    return 1;
}

static int write_all(int fd, const char *text, size_t length) {
    while (length > 0) {
        long done = call(SYS_write, fd, (long)text, (long)length, 0, 0);
        if (done <= 0) return -1;
        text += done;
        length -= (size_t)done;
    }
    return 0;
}

static char consoles[MAX_CONSOLES][32]; /* "/dev/NAME" */
static int console_fds[MAX_CONSOLES];   /* kept open: opening a serial port sets it up again each time */
static int console_count;
static const char *environment[MAX_ENVIRONMENT + 4] = {"PATH=/bin:/sbin", "HOME=/", "TERM=linux", "PS1=nephos:\\w# "};
static char command_line[4096];
static char script_path[80] = "";
static int stay;

/* To all consoles. One whose shell has ended was hung up with it: opened anew. */
static void say(const char *text) {
    for (int i = 0; i < console_count; i++) {
        if (write_all(console_fds[i], text, length_of(text)) == 0) continue;
        close_file(console_fds[i]);
        console_fds[i] = open_file(consoles[i], O_WRONLY | O_NOCTTY | O_CLOEXEC);
        if (console_fds[i] >= 0) write_all(console_fds[i], text, length_of(text));
    }
}

static void power_off(void) {
    for (int i = 0; i < console_count; i++) call(SYS_ioctl, console_fds[i], TCSBRK, 1, 0, 0); /* tcdrain */
    call(SYS_sync, 0, 0, 0, 0, 0);
    call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0, 0);
}

static void add_console(const char *name, size_t length) {
    if (console_count == MAX_CONSOLES || length + 6 > sizeof consoles[0]) return;
    char *path = consoles[console_count];
    memcpy(path, "/dev/", 5);
    memcpy(path + 5, name, length);
    path[5 + length] = '\0';
    int fd = open_file(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) console_fds[console_count++] = fd;
}

static void read_command_line(void) {
    int fd = open_file("/proc/cmdline", O_RDONLY);
    long length = fd < 0 ? 0 : read_file(fd, command_line, sizeof command_line - 1);
    if (fd >= 0) close_file(fd);
    for (char *word = command_line, *end = command_line + (length < 0 ? 0 : length); word < end;) {
        char *stop = word;
        while (stop < end && *stop != ' ' && *stop != '\n') stop++;
        *stop = '\0';
        if (starts_with(word, "console=")) {
            const char *name = word + 8;
            size_t size = 0;
            while (name[size] && name[size] != ',') size++;
            add_console(name, size);
        } else if (starts_with(word, "nephos.script=") && length_of(word + 14) < 64) {
            memcpy(script_path, "/scripts/", 9);
            memcpy(script_path + 9, word + 14, length_of(word + 14) + 1);
        } else if (starts_with(word, "nephos.stay")) {
            stay = 1;
        }
        word = stop + 1;
    }
    if (console_count == 0) add_console("console", 7);
}

/* Modules of a distribution kernel, if the image was made with some: one path per line, in loading order. */
static void load_modules(void) {
    static char list[8192];
    int fd = open_file("/etc/modules", O_RDONLY);
    if (fd < 0) return;
    long length = read_file(fd, list, sizeof list - 1);
    close_file(fd);
    for (char *line = list, *end = list + (length < 0 ? 0 : length); line < end;) {
        char *stop = line;
        while (stop < end && *stop != '\n') stop++;
        *stop = '\0';
        int module = open_file(line, O_RDONLY);
        if (module >= 0) {
            call(SYS_finit_module, module, (long)"", 0, 0, 0);
            close_file(module);
        }
        line = stop + 1;
    }
}

/* Copies a script found on a disk to a file; its bytes up to the first NUL. */
static void find_script_disk(void) {
    static char buffer[4096] __attribute__((aligned(4096)));
    char path[] = "/dev/vda";
    for (; path[7] <= 'z'; path[7]++) {
        int fd = open_file(path, O_RDONLY);
        if (fd == -ENOENT) return;
        if (fd < 0) continue;
        long length = read_file(fd, buffer, sizeof buffer);
        if (length >= 8 && starts_with(buffer, "#!NEPHOS")) {
            memcpy(script_path, "/tmp/script", 12);
            int out = open_file(script_path, O_WRONLY | O_CREAT | O_TRUNC);
            for (long total = 0; length > 0 && total < SCRIPT_LIMIT; total += length) {
                long used = 0;
                while (used < length && buffer[used]) used++;
                write_all(out, buffer, (size_t)used);
                if (used < length) break;
                length = read_file(fd, buffer, sizeof buffer);
            }
            close_file(out);
            close_file(fd);
            return;
        }
        close_file(fd);
    }
}

/* Starts a shell on a console: for the script, or to talk to, then as its terminal. Returns its process id. */
static long start_shell(const char *console, const char *script) {
    long pid = call(SYS_fork, 0, 0, 0, 0, 0);
    if (pid != 0) return pid;
    const char *arguments[] = {"sh", script, NULL};
    call(SYS_setsid, 0, 0, 0, 0, 0);
    int fd = open_file(console, O_RDWR | O_NOCTTY);
    if (fd >= 0) {
        if (!script) call(SYS_ioctl, fd, TIOCSCTTY, 0, 0, 0);
        for (int target = 0; target < 3; target++) call(SYS_dup2, fd, target, 0, 0, 0);
        if (fd > 2) close_file(fd);
    }
    call(SYS_execve, (long)"/bin/sh", (long)arguments, (long)environment, 0, 0);
    call(SYS_exit, 127, 0, 0, 0, 0);
    return -1;
}

/* Waits for any child; the status is the shell's view of it: exit code, or 128 + signal. */
static long reap(int *code) {
    int status = 0;
    long pid = call(SYS_wait4, -1, (long)&status, 0, 0, 0);
    *code = (status & 0x7f) ? 128 + (status & 0x7f) : (status >> 8) & 0xff;
    return pid;
}

static int has_power_key(int fd) {
    unsigned char keys[KEY_MAX / 8 + 1];
    memset(keys, 0, sizeof keys);
    if (call(SYS_ioctl, fd, EVIOCGBIT(EV_KEY, sizeof keys), (long)keys, 0, 0) < 0) return 0;
    return keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1;
}

/* A process of its own that waits for the power button for ever. */
static void watch_power_button(void) {
    char path[] = "/dev/input/event0";
    for (; path[16] <= '9'; path[16]++) {
        int fd = open_file(path, O_RDONLY);
        if (fd < 0) return;
        if (has_power_key(fd) && call(SYS_fork, 0, 0, 0, 0, 0) == 0) {
            struct input_event event;
            while (read_file(fd, &event, sizeof event) == (long)sizeof event) {
                if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
                    say("NEPHOS-POWER-BUTTON\n");
                    power_off();
                }
            }
            call(SYS_exit, 0, 0, 0, 0, 0);
        }
        close_file(fd);
    }
}

static void run_script(void) {
    int code;
    const char *console = consoles[console_count - 1]; /* as the kernel: the last one named is the main one */
    long shell = start_shell(console, script_path);
    for (long pid = reap(&code); pid != shell; pid = reap(&code))
        if (pid < 0) break;
    char line[] = "NEPHOS-SCRIPT-END rc=   \n";
    char *digit = line + length_of("NEPHOS-SCRIPT-END rc=");
    if (code >= 100) *digit++ = (char)('0' + code / 100);
    if (code >= 10) *digit++ = (char)('0' + code / 10 % 10);
    *digit++ = (char)('0' + code % 10);
    *digit++ = '\n';
    *digit = '\0';
    say(line);
}

static void serve_shells(void) {
    long shells[MAX_CONSOLES];
    int code;
    for (int i = 0; i < console_count; i++) shells[i] = start_shell(consoles[i], NULL);
    for (;;) {
        long pid = reap(&code);
        if (pid < 0) power_off(); /* no child could be started at all */
        for (int i = 0; i < console_count; i++)
            if (shells[i] == pid) shells[i] = code == 127 ? -1 : start_shell(consoles[i], NULL);
    }
}

__attribute__((noreturn, used)) void begin(long *stack) {
    const char **given = (const char **)(stack + 1 + *stack + 1);
    int count = 4;
    while (*given && count < MAX_ENVIRONMENT + 3) { /* unknown words of the command line arrive here */
        if (!starts_with(*given, "HOME=") && !starts_with(*given, "TERM=")) environment[count++] = *given;
        given++;
    }
    call(SYS_mount, (long)"none", (long)"/proc", (long)"proc", 0, 0);
    call(SYS_mount, (long)"none", (long)"/sys", (long)"sysfs", 0, 0);
    call(SYS_mount, (long)"none", (long)"/dev", (long)"devtmpfs", 0, 0);
    load_modules();
    read_command_line();
    say("NEPHOS-GUEST-UP\n");
    watch_power_button();
    if (!script_path[0]) find_script_disk();
    if (script_path[0]) {
        run_script();
        if (!stay) power_off();
    }
    serve_shells();
    __builtin_unreachable();
}

__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall begin\n");
