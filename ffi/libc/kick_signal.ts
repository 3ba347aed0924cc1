/**
 * The number of the kick signal, apart from `signal.ts` so that main can name it without opening that file's symbols.
 *
 * L0, any isolate.
 */

/** A real-time signal glibc does not use itself (it keeps 32 and 33). */
export const KICK_SIGNAL = 40;
