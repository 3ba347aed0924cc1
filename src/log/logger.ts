/**
 * The program's log: levels, output, line form.
 *
 * L1, main isolate (Workers post `log` events instead). One log per process: `log`.
 * Source: spec/cli.md §4.
 */
import { DEFAULT_FORMAT, type Level, LEVELS, type LineFormat, parseFormat } from "./format.ts";
import { RateLimit } from "./rate_limit.ts";

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
/** Frames of an Error's stack above the caller of a log method: the message line, `#write`, the level's method. */
const OWN_FRAMES = 3;

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

function fileWriter(path: string): LineWriter {
  const file = Deno.openSync(path, { write: true, create: true, truncate: true });
  return {
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
  const match = /(?:file:\/\/)?\/?([^\s()]*):(\d+):\d+\)?$/.exec(frame);
  if (match === null) return "unknown:0";
  const path = match[1].replace(/^.*\/(src|ffi|schemas|tests|scripts)\//, "$1/");
  return `${
    path.includes("/") && !/^(src|ffi|schemas|tests|scripts)\//.test(path) ? path.split("/").at(-1) : path
  }:${match[2]}`;
}

/** A log: writes lines of the configured levels. Methods never throw. */
export class Logger {
  #level = WARN;
  #format: LineFormat = parseFormat(DEFAULT_FORMAT);
  #writer: LineWriter;
  readonly #limit = new RateLimit(() => performance.now());
  readonly #encoder = new TextEncoder();

  constructor(writer: LineWriter = standardError) {
    this.#writer = writer;
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
    if (settings.file !== undefined) {
      try {
        this.#writer = fileWriter(settings.file);
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

  /** A line a guest can cause, any number of times: limited by `key`. */
  limited(level: Level, key: string, message: string): void {
    if (!this.enabled(level)) return;
    const suppressed = this.#limit.take(key);
    if (suppressed === undefined) return;
    this.#write(level, suppressed === 0 ? message : `${message} (${suppressed} more like this not shown)`);
  }

  #write(level: Level, message: string): void {
    if (!this.enabled(level)) return;
    const { stack } = new Error();
    const now = new Date();
    const line = this.#format({
      level,
      message,
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
