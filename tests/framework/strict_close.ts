/**
 * Closing a descriptor twice fails the test that does it.
 *
 * Test framework, loaded before every test file (`deno test --preload`). Test files run as threads of one process: the
 * second close would hit whatever another file opened in between, and that one would fail for no reason of its own.
 *
 * @module
 */

import { onBadClose } from "@ffi/libc/fd.ts";

onBadClose((fd) => {
  throw new Error(`Descriptor ${fd} was closed while it was not open`);
});
