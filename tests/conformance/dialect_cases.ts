/**
 * Bytes sent to the drop-in front door, to be answered byte for byte as the original answers them.
 *
 * Tests only. Every case uses a connection of its own, with no VM configured.
 */

const PING = "/api/v1/vmm.ping";
const line = (text: string) => `${text}\r\n\r\n`;
const header = (text: string) => `GET ${PING} HTTP/1.1\r\n${text}\r\n\r\n`;
const put = (path: string, body: string, headers = "") =>
  `PUT /api/v1/${path} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`;
const MAX_LINE = 1022;
const targetOf = (lengthBytes: number) =>
  `GET /${"a".repeat(lengthBytes - "GET / HTTP/1.1".length)} HTTP/1.1`;

/** Parts sent one after another, each once the answer to the one before has come; characters are bytes (Latin-1). */
export const DIALECT_CASES: Readonly<Record<string, readonly string[]>> = {
  "ping": [line(`GET ${PING} HTTP/1.1`)],
  "ping twice on one connection": [line(`GET ${PING} HTTP/1.1`), line(`GET ${PING} HTTP/1.1`)],
  "pipelined": [line(`GET ${PING} HTTP/1.1`) + line("GET /x HTTP/1.1") + put("vm.boot", "")],
  "HTTP/1.0": [line(`GET ${PING} HTTP/1.0`)],
  "Connection: close": [header("Connection: close")],
  "absolute target": [line(`GET http://localhost${PING} HTTP/1.1`)],
  "absolute target without host": [line(`GET http://${PING} HTTP/1.1`)],
  "absolute target without path": [line("GET http://localhost HTTP/1.1")],
  "https target": [line(`GET https://h${PING} HTTP/1.1`)],
  "upper-case scheme": [line(`GET HTTP://h${PING} HTTP/1.1`)],
  "absolute target with user and port": [line(`GET http://u@h:80${PING} HTTP/1.1`)],
  "absolute target twice": [line(`GET http://http://h${PING} HTTP/1.1`)],
  "percent sign": [line("GET /api/v1/vmm%2eping HTTP/1.1")],
  "two dots": [line("GET /api/v1/../v1/vmm.ping HTTP/1.1")],
  "fragment": [line(`GET ${PING}#a HTTP/1.1`)],
  "asterisk": [line("GET * HTTP/1.1")],
  "query": [line(`GET ${PING}?a=b HTTP/1.1`)],
  "trailing slash": [line(`GET ${PING}/ HTTP/1.1`)],
  "body ignored": [`GET ${PING} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc`],
  "400 with message": [line("GET /api/v1/vm.boot HTTP/1.1")],
  "400 without message": [line("PATCH /api/v1/vm.boot HTTP/1.1")],
  "400 for a body": [put("vm.boot", "{}")],
  "400 for JSON": [put("vm.create", "{")],
  "400 for a field": [put("vm.remove-device", "{}")],
  "404": [put("vm.boot", "")],
  "500": [put("vm.pause", "")],
  "204": [put("vm.delete", "")],
  "longest request line": [line(targetOf(MAX_LINE))],
  "longest header": [header(`X: ${"a".repeat(MAX_LINE - 3)}`)],
  "Expect": ["PUT /api/v1/vm.resize HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "{}"],
  "Expect with HTTP/1.0": [
    "PUT /api/v1/vm.resize HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    "{}",
  ],
  "Expect and body at once": [put("vm.resize", "{}", "Expect: 100-continue\r\n")],
  "Expect without body": [header("Expect: 100-continue")],
  "Expect something else": [put("vm.resize", "{}", "Expect: 100-Continue\r\n")],
  "no Content-Type": [put("vm.resize", "{}")],
  "other Content-Type": [put("vm.resize", "{}", "Content-Type: text/plain\r\n")],
  "Content-Length with sign": ["PUT /api/v1/vm.resize HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}"],
  "Content-Length with zeros": ["PUT /api/v1/vm.resize HTTP/1.1\r\nContent-Length: 0002\r\n\r\n{}"],
  "Content-Length twice": [
    "PUT /api/v1/vm.resize HTTP/1.1\r\nContent-Length: 9\r\nContent-Length: 2\r\n\r\n{}",
  ],
  "Content-Length in any case": ["PUT /api/v1/vm.resize HTTP/1.1\r\ncOnTeNt-LeNgTh \t: \t2 \t\r\n\r\n{}"],
  "Content-Length after a next-line character": [
    "PUT /api/v1/vm.resize HTTP/1.1\r\nContent-Length: \xc2\x852\r\n\r\n{}",
  ],
  "Content-Length after a byte order mark": [header("Content-Length: \xef\xbb\xbf2")],
  "Content-Length after a no-break space": [
    "PUT /api/v1/vm.resize HTTP/1.1\r\n\xc2\xa0Content-Length:\xc2\xa02\r\n\r\n{}",
  ],
  "header that begins with a byte order mark": [
    header("\xef\xbb\xbfContent-Length: 2"),
    line(`GET ${PING} HTTP/1.1`),
  ],
  "Content-Length as a list": [header("Content-Length: 2, 2")],
  "Content-Length 0": ["PUT /api/v1/vm.delete HTTP/1.1\r\nContent-Length: 0\r\n\r\n"],
  "Content-Length not a number": [header("Content-Length: abc")],
  "Content-Length negative": [header("Content-Length: -1")],
  "Content-Length empty": [header("Content-Length:")],
  "Content-Length of 2^32": [header("Content-Length: 4294967296")],
  "body too large": ["PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n"],
  "Transfer-Encoding": [header("Transfer-Encoding: chunked")],
  "Accept-Encoding without identity": [header("Accept-Encoding: identity;q=0")],
  "Accept-Encoding, second without identity": [header("Accept-Encoding: gzip, identity;q=0")],
  "Accept-Encoding nothing": [header("Accept-Encoding: *;q=0")],
  "Accept-Encoding nothing but identity": [header("Accept-Encoding: *;q=0, identity;q=0.5")],
  "Accept-Encoding with space": [header("Accept-Encoding: identity; q=0")],
  "Accept-Encoding in other case": [header("Accept-Encoding: IDENTITY;q=0")],
  "Accept-Encoding twice": [header("Accept-Encoding: gzip\r\nAccept-Encoding: identity;q=0")],
  "Accept-Encoding empty": [header("Accept-Encoding: ")],
  "many headers": [header(Array.from({ length: 500 }, (_, index) => `X-${index}: y`).join("\r\n"))],
  "header without colon": [header("foo")],
  "header without name": [header(": x")],
  "folded header": [header("X: a\r\n b")],
  "carriage return in header": [header("X: a\rb")],
  "header with broken UTF-8": [header("X: \xff")],
  "header with half a character": [header("X: \xf0\x9f\x98")],
  "header name with broken UTF-8": [header("X\xe2\x82: 1")],
  "header with surrogate": [header("X: \xed\xa0\x80")],
  "POST": [line(`POST ${PING} HTTP/1.1`)],
  "lower-case method": [line(`get ${PING} HTTP/1.1`)],
  "space before method": [line(` GET ${PING} HTTP/1.1`)],
  "HTTP/2.0": [line(`GET ${PING} HTTP/2.0`)],
  "space after version": [line(`GET ${PING} HTTP/1.1 `)],
  "three words": [line(`GET ${PING} x HTTP/1.1`)],
  "no version": [line(`GET ${PING}`)],
  "empty version": [line("GET / ")],
  "one word": [line("GET")],
  "POST without version": [line("POST /")],
  "empty target": [line("GET  HTTP/1.1")],
  "target with broken UTF-8": [line("GET /\xff HTTP/1.1")],
  "tab for space": [line(`GET ${PING}\tHTTP/1.1`)],
  "empty line first": [`\r\n${line(`GET ${PING} HTTP/1.1`)}`],
  "binary": ["\x00\x01\x02\r\n\r\n"],
  "good after bad request line": [line("FOO / HTTP/1.1"), line("GET /x HTTP/1.1")],
  "bad request line drops what came with it": [line("FOO / HTTP/1.1") + line("GET /x HTTP/1.1")],
};
