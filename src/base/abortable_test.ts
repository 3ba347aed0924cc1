import assert from "node:assert/strict";
import { abortable } from "./abortable.ts";

Deno.test("abortable() gives the result, or the signal's reason", async () => {
  assert.equal(await abortable(Promise.resolve(1), undefined), 1);
  const abort = new AbortController();
  assert.equal(await abortable(Promise.resolve(2), abort.signal), 2);
  const waiting = abortable(new Promise(() => {}), abort.signal);
  const reason = new Error("enough");
  abort.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  await assert.rejects(abortable(Promise.resolve(3), abort.signal), (error) => error === reason);
  await assert.rejects(
    abortable(Promise.reject(new Error("late")), abort.signal),
    (error) => error === reason,
  );
});
