/**
 * The program's log: levels, output, line form.
 *
 * L1, main isolate (Workers post `log` events instead). One log per process: `log`.
 * Source: spec/cli.md §4.
 */
import { DEFAULT_FORMAT, type Level, LEVELS, type LineFormat, parseFormat } from "./format.ts";
import { RateLimit } from "./rate_limit.ts";
import { sourceLine, withSourceLines } from "./source_lines.ts";

/** A line that was held back. */
interface HeldLine {
  readonly level: Level;
  readonly message: string;
}

/** Where lines go. */
export interface LineWriter {
  /** Writes all of `bytes`; errors are the writer's own business. */
  write(bytes: Uint8Array): void;
}

/** What the command line says about the log. */
export interface LogSettings {
  /** Number of `-v`: 0 warnings, 1 info, 2 debug, 3 and more trace. */
  readonly verbosity: number;
  /** Created or truncated; standard error when absent. */
  readonly file?: string;
  /** Line template. */
  readonly format?: string;
}

const CARRIAGE_RETURN = 13;
const LINE_FEED = 10;
const WARN = LEVELS.indexOf("WARN");
/** How long after lines were held back it is told, when no other line does. */
const OWED_MS = 1_000;
/** Frames of an Error's stack above the caller of a log method: the message line, `#write`, the level's method. */
const OWN_FRAMES = 3;
/** How each frame of a stack begins. */
const STACK_FRAME = "\n    at ";

/**
 * Standard error. A full pipe makes it wait, as any program's standard error does. On a terminal, which a console may have
 * made raw, a line feed alone would stay in its column.
 */
const standardError: LineWriter = {
  write(line) {
    try {
      const bytes = Deno.stderr.isTerminal() ? withReturn(line) : line;
      for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
    } catch {
      // Nobody reads it any more: there is no better place to say so.
    }
  },
};

/** A line, its line feed after a carriage return. */
function withReturn(line: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(line.length + 1);
  bytes.set(line.subarray(0, -1));
  bytes.set([CARRIAGE_RETURN, LINE_FEED], line.length - 1);
  return bytes;
}

/** A log file. */
interface FileWriter extends LineWriter {
  readonly path: string;
  close(): void;
}

/** Lines go to the end of the file, so that it may be cut short while it is written to (logrotate's `copytruncate`). */
function fileWriter(path: string): FileWriter {
  const file = Deno.openSync(path, { append: true, create: true });
  if (file.statSync().isFile) file.truncateSync();
  return {
    path,
    close: () => file.close(),
    write(bytes) {
      try {
        for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
      } catch {
        // A full disk must not stop a VM.
      }
    },
  };
}

/** `path/in/program.ts:line` of the frame that called the log. */
function callerLocation(stack: string | undefined, frames: number): string {
  const frame = stack?.split("\n")[frames] ?? "";
  const match = /(?:file:\/\/)?(\/[^\s()]*):(\d+):\d+\)?$/.exec(frame);
  if (match === null) return "unknown:0";
  const [, path, line] = match;
  const source = sourceLine(path, Number(line));
  if (source !== undefined) return source;
  const inProject = /^.*\/((?:src|ffi|schemas|tests|scripts)\/.*)$/.exec(path)?.[1];
  return `${inProject ?? path.slice(path.lastIndexOf("/") + 1)}:${line}`;
}

/** A line that stands for others too. */
function withCount(message: string, others: number): string {
  return others === 0 ? message : `${message} (${others} more like this not shown)`;
}

/** A log: writes lines of the configured levels. Methods never throw. */
export class Logger {
  #level = WARN;
  #format: LineFormat = parseFormat(DEFAULT_FORMAT);
  #writer: LineWriter;
  #file: FileWriter | undefined;
  readonly #limit: RateLimit<HeldLine>;
  #owedTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #encoder = new TextEncoder();

  /** @param nowMs monotonic clock in milliseconds */
  constructor(writer: LineWriter = standardError, nowMs: () => number = () => performance.now()) {
    this.#writer = writer;
    this.#limit = new RateLimit(nowMs);
  }

  /** Applies the command line. @throws Error with the chain of what failed: template or file */
  configure(settings: LogSettings): void {
    if (settings.format !== undefined) {
      try {
        this.#format = parseFormat(settings.format);
      } catch (cause) {
        throw new Error("Error parsing logger format", { cause });
      }
    }
    const { file } = settings;
    // Every VMM of a program may name the same one.
    if (file !== undefined && file !== this.#file?.path) {
      try {
        const writer = fileWriter(file);
        this.#file?.close();
        this.#writer = this.#file = writer;
      } catch (cause) {
        // Deno adds the call and the path.
        const reason = (cause as Error).message.replace(/: open '.*'$/s, "");
        throw new Error("Error creating log file", { cause: new Error(reason) });
      }
    }
    this.#level = Math.min(WARN + settings.verbosity, LEVELS.length - 1);
  }

  /** Whether lines of `level` are written. */
  enabled(level: Level): boolean {
    return LEVELS.indexOf(level) <= this.#level;
  }

  error(message: string): void {
    this.#write("ERROR", message);
  }

  warn(message: string): void {
    this.#write("WARN", message);
  }

  info(message: string): void {
    this.#write("INFO", message);
  }

  debug(message: string): void {
    this.#write("DEBUG", message);
  }

  trace(message: string): void {
    this.#write("TRACE", message);
  }

  /** A line a guest can cause, any number of times: limited by `key`. @param leftOut as many like it were left out before */
  limited(level: Level, key: string, message: string, leftOut = 0): void {
    if (!this.enabled(level)) return;
    const suppressed = this.#limit.take(key, { level, message }, leftOut);
    if (suppressed !== undefined) return this.#write(level, withCount(message, suppressed));
    this.#tellOwedLater();
  }

  #tellOwedLater(): void {
    if (this.#owedTimer !== undefined) return;
    this.#owedTimer = setTimeout(() => {
      this.#owedTimer = undefined;
      this.tellOwed();
      if (this.#limit.owes) this.#tellOwedLater();
    }, OWED_MS);
    Deno.unrefTimer(this.#owedTimer);
  }

  /** Tells of lines that were held back and that no other line has told of; at the `end` whether their time has come or not. */
  tellOwed(end = false): void {
    for (const { held: { level, message }, count } of this.#limit.owed(end)) {
      this.#write(level, withCount(message, count - 1));
    }
  }

  #write(level: Level, message: string): void {
    if (!this.enabled(level)) return;
    const { stack } = new Error();
    const now = new Date();
    const line = this.#format({
      level,
      message: message.includes(STACK_FRAME) ? withSourceLines(message) : message,
      uptimeUs: Math.round(performance.now() * 1e3),
      wallUs: Math.round((performance.timeOrigin + performance.now()) * 1e3),
      localOffsetMinutes: -now.getTimezoneOffset(),
      pid: Deno.pid,
      tid: Deno.pid,
      thread: "main",
      location: () => callerLocation(stack, OWN_FRAMES),
    });
    this.#writer.write(this.#encoder.encode(`${line.replaceAll("\0", "")}\n`));
  }
}

/** The process's log. */
export const log = new Logger();
