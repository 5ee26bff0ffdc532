// Package remote lets a transaction have branches in other services, over HTTP.
//
// A service that has branches registers them with a [Host], in its own database,
// and mounts it. The service that runs the transactions registers their kinds
// with its engine, and with a [Service] that says where they are:
//
//	key, err := remote.NewKey("2026-11", secret)
//	stock, err := remote.NewService("https://stock.example/branches",
//		remote.ServiceConfig{Name: "stock", Keys: []remote.Key{key}})
//	err = tcc.RegisterRemote[Lock](orch, stock)
//
// A plan may mix branches of the engine's own database, of other databases, and
// of other services.
//
// # Requests
//
// The format is DTM's HTTP convention, so that one hosted branch serves an
// embedded orchestrator and a DTM server alike:
//
//	POST {base}/{kind}?gid=...&trans_type=tcc&branch_id=01&op=try&caller=...
//
// The body is the payload, in JSON. The last part of the path is the kind of
// branch, without escaped characters. Each parameter comes once. The caller is
// the calling engine, in up to 128 printable characters; a DTM server does not
// send it. A [Service] adds the header Tccsaga-Request with a random id.
//
// # Answers
//
//	200            the call is done, or was done before
//	409            the branch says no, or was cancelled before; to a Try only
//	425            the call is under way, or nobody knows how it went
//	500            it failed and may be repeated
//	503            likewise: it took too long, or the host has too many requests
//	400, 401, 404, it is no call that this host can make
//	405, 408, 413
//
// The body is a JSON object:
//
//	dtm_result  SUCCESS, FAILURE or ONGOING, to 200, 409 and 425
//	message     for people
//	code        of a rejection; see saga.RejectCode
//	conflict    true if the call contradicts what the branch has done
//	error_id    finds the error in the log of the host
//	answers     {gid, branch_id, op, request}: the call and the id of the
//	            request, if the request had one
//
// A host passes on the text and the code of a rejection, the text of a conflict,
// and the text that an error has in a method Public() string. The text of any
// other error stays in the log of the host, with the error id.
//
// A [Service] accepts an answer only if it names the request that it answers,
// and, with keys, if it is signed. Anything else is no answer, whatever its
// status: the page of a web server or a proxy does not confirm anything. Branches
// that follow DTM's convention and are not behind a [Host] need
// [ServiceConfig.PlainDTM].
//
// The text of an error of a [Service] has addresses and what came back, for
// operators. Its method Public returns a text without them.
//
// # What can get lost
//
// The barrier is in the database of the host. It makes every order of calls safe:
// repeated calls, calls whose answer is lost, a Cancel without a Try, and a Try
// that comes after its Cancel. A Try without an answer is therefore sent again,
// twice at most. If there is still no answer, the transaction is cancelled: the
// Cancel gives back what the Try may have reserved, or keeps a Try that is still
// under way from reserving. A Confirm or Cancel is repeated until it is answered
// with 200.
//
// # Who may call
//
// With [HostConfig.Keys], a host refuses requests that are not signed with one of
// them. Use keys wherever anybody else can reach the port, and TLS, which is a
// matter of the [net/http.Server] and the [net/http.Client], wherever anybody can
// listen. Without keys, a host needs [HostConfig.AllowUnsigned].
//
// The header Tccsaga-Signature is "key=ID, time=SECONDS, length=BYTES,
// body=SHA256, mac=HEX". The mac is HMAC-SHA256 over these lines, each followed
// by a line feed:
//
//	tccsaga-2 request
//	the Name of the service
//	the time, in seconds since 1970
//	the id of the request
//	the method
//	the path as it is sent, escaped
//	the query, sorted by name and escaped as by url.Values.Encode
//	the length of the body
//	the SHA-256 of the body, in hexadecimal
//
// So a host verifies the head of a request before it reads the body, and the body
// against the head afterwards. A proxy in between may change neither the path nor
// the body; it may reorder the query. Requests without a valid signature are
// answered 401, unread, and do not count as concurrent requests.
//
// An answer to a verified request has the header Tccsaga-Answer, "mac=HEX": the
// HMAC with the same key over these lines:
//
//	tccsaga-2 answer
//	the mac of the request, in hexadecimal
//	the status
//	the SHA-256 of the body, in hexadecimal
//
// A signature is good for one [HostConfig.Window] in total: a tenth of it before
// the time in it, by the clock of the host, and the rest after. A request that is
// sent again within the window has no second effect, because the barrier knows
// it. Clean keeps the barrier's rows for longer than any captured request is
// good, and refuses an age below two windows and the timeouts of a call.
// The Name keeps a request to one service from being repeated to another one with
// the same keys.
//
// A DTM server cannot sign. A host that one calls has AllowUnsigned, and only the
// network, or mutual TLS in front of it, keeps others out. The limits of a host
// bound its memory in any case, but whoever can reach an unsigned host can make
// calls, and can take all of its slots.
package remote
