// Package remote lets a transaction have branches in other services, over HTTP.
//
// A service with branches registers them with a [Host], which has its barrier in the
// database of the service, and mounts it. The service that runs the transactions
// registers the kinds of these branches with its engine, together with a [Service] that
// has the address:
//
//	key, err := remote.NewKey("2026-11", secret)
//	stock, err := remote.NewService("https://stock.example/branches",
//		remote.ServiceConfig{Name: "stock", Keys: []remote.Key{key}})
//	err = tcc.RegisterRemote[Lock](engine, stock)
//
// A plan may mix branches of the engine's own database, of other databases, and
// of other services.
//
// # Requests
//
// The format is DTM's HTTP convention. So both an embedded engine and a DTM server can
// call a hosted branch:
//
//	POST {base}/{kind}?gid=...&trans_type=tcc&branch_id=01&op=try&caller=...
//
// The body is the payload, in JSON. The last part of the path is the kind of branch,
// without escaped characters. Each parameter is there once. The caller is the calling
// engine, in up to 127 printable characters; a DTM server does not send it. A [Service]
// adds the header Tccsaga-Request with a random id.
//
// # Answers
//
//	200            the call is done, or was done before
//	409            the branch rejects the call, or was cancelled before; to a Try only. The
//	               Try was not committed, and never will be; to an ask only
//	425            the call is under way, or its result is unknown
//	500            the call failed and may be repeated
//	503            the same: it took too long, or the host has too many requests
//	400, 401, 404, the host cannot make this call
//	405, 408, 413
//
// The body is a JSON object:
//
//	dtm_result  SUCCESS, FAILURE or ONGOING, with 200, 409 and 425
//	message     for people
//	code        of a rejection; see saga.RejectCode
//	conflict    true if the call contradicts the barrier row of the branch
//	error_id    finds the error in the log of the host
//	answers     {gid, branch_id, op, request}: the call and the id of the
//	            request, if the request had one
//
// A host passes on the text and the code of a rejection, the text of a conflict, and
// the text that the method Public() string of an error returns. The text of any other
// error stays in the log of the host, with the error id.
//
// A [Service] accepts an answer only if it names the request and, with keys, if it is
// signed. Any other answer does not count, whatever its status: the page of a web server
// or a proxy confirms nothing. Branches that follow DTM's convention and are not behind
// a [Host] need [ServiceConfig.PlainDTM].
//
// The text of an error of a [Service] has addresses and the text of the answer, for
// operators. Its method Public returns a text without them.
//
// # Batches
//
// Calls to a service that come while requests to it are under way travel together, as the next
// request. A call that comes alone does not wait, and has the form above. The address of a batch
// has ~calls in the place of the kind, and no parameters:
//
//	POST {base}/~calls
//
// The header Tccsaga-Request is required. The first line of the body is a JSON object. The
// payloads and results follow it without anything in between, so they arrive byte by byte:
//
//	calls  a list of {gid, branch_id, op, kind, caller, payload, results, trace}; payload and
//	       results are numbers of bytes, and an older host does not read the trace
//
// A batch has at most 256 calls and 1 MiB, or the MaxPayload of the host if that is more. The
// host makes the calls side by side. It answers 200, and then each call as soon as it has
// ended, with one line:
//
//	NUMBER STATUS CODE BODY
//
// The NUMBER is the place of the call in the list, from 0. The STATUS and the BODY are those of
// the call alone. The CODE is that of the header Tccsaga-Answer, for this STATUS and BODY, or a
// dash. Each line counts by itself: if the answer breaks off, only the calls without a line are
// unknown. So a call that is slow, fails or panics keeps no other from its answer.
//
// Any other status refuses the whole batch. After 400, 404, 405 or 413, as of an older host, the
// Service makes the calls one by one, and tries a batch again after a minute. A service of
// [ServiceConfig.PlainDTM] gets no batches.
//
// # Traces
//
// If the engine has an observer that keeps traces, such as that of package otelsaga, a call names
// its trace context: in the header traceparent of the W3C, and in a batch in the list of calls,
// because each call belongs to another transaction. The header is not signed. A host with such an
// observer continues the trace; see [HostConfig.Observers].
//
// # What can get lost
//
// The barrier is in the database of the host. It makes every order of calls safe:
// repeated calls, calls without an answer, a Cancel without a Try, and a Try that
// arrives after its Cancel. So a Service repeats a Try without an answer, at most twice.
// If there is still no answer, the engine cancels the transaction. The Cancel gives back
// the reservation of the Try, or makes the host refuse a Try that is still under way. A
// Confirm or Cancel is repeated until the answer is 200.
//
// # In doubt
//
// The engine may not reach the host any more when it has decided. A host can ask the engine
// for the outcome, and end its branch by itself; see package participant. The service that
// has the engine mounts [Outcomes]. The host has an [Engine], which asks there:
//
//	outcomes, err := remote.NewOutcomes(engine, remote.OutcomesConfig{Name: "orders", Keys: keys})
//	mux.Handle("/outcomes", outcomes)
//
//	orders, err := remote.NewEngine("https://orders.example/outcomes",
//		remote.EngineConfig{Name: "orders", Keys: keys})
//	host, err := remote.NewHost(ctx, db, remote.HostConfig{Name: "stock", Keys: keys,
//		Outcomes: []participant.Outcomes{orders}})
//	go host.Run(ctx)
//
// A question is GET {address}?gid=...&caller=..., with the header Tccsaga-Request, and is
// signed like a call. The caller is the log that was named in the call of the branch. The
// answer is signed for this request, so an old answer does not count. Its body is a JSON
// object:
//
//	log, gid, request  the question
//	state              with 200: the state of the transaction, or unknown if the log does
//	                   not have it
//	message            for people
//	error_id           finds the error in the log of the service
//
//	200            the state
//	421            the engine has another log
//	425            the host has to wait for the call of the engine
//	400, 401, 405  this is not a question
//	500, 503       the log cannot be read now
//
// An answer tells nothing about the branches of the transaction, or about their payloads. A
// host acts only on 200. To replace a key, first add it to the Outcomes, then make it the
// first key of every Engine, and then remove the old one.
//
// A DTM server does not answer questions, and its calls do not name a caller. A host does not
// ask for the branches of such calls.
//
// # Barrier rows
//
// An operator sees the barrier row of each branch in the Lookup of a transaction, also of the
// branches behind a [Host]. A [Service] asks the host for them, once for a transaction; see
// [Service.Barrier]. The address of a question has ~barrier in the place of the kind:
//
//	POST {base}/~barrier?gid=...&caller=...
//
// The caller is the log of the engine, as in its calls, and is required. The header
// Tccsaga-Request is required, too. There is no body. A question is signed like a call. It takes
// no slot of MaxConcurrent; a host answers 16 questions at the same time. It changes nothing, so
// a question that is sent again has no effect.
//
// The answer is signed for this request, so an old answer does not count. Its body is a JSON
// object of at most 256 KiB:
//
//	caller, gid, request  the question
//	rows                  with 200: a list of the barrier rows of this transaction of this
//	                      caller, at most 99, in the order of the branches; left out if there
//	                      is none. Each is a barrier.Row in JSON, with the field call_left: the
//	                      microseconds until the latest end of the call under way, negative
//	                      after it
//	message               for people
//	error_id              finds the error in the log of the host
//
//	200            the rows
//	400, 401, 405  this is not a question
//	500, 503       the barrier cannot be read now, or there are too many questions
//
// Rows of other callers with the same gid are not in the answer, and neither are payloads. A
// nested transaction of a host has no row: the engine there is its barrier. An older host
// answers 400, and other services 404. Then Lookup says that the service does not answer
// questions about its barrier. A service of [ServiceConfig.PlainDTM] is not asked.
//
// # Who may call
//
// With [HostConfig.Keys], a host refuses requests that are not signed with one of these
// keys. Use keys if other programs can reach the port. Use TLS if others can read the
// traffic; TLS is a setting of the [net/http.Server] and the [net/http.Client]. Without
// keys, a host needs [HostConfig.AllowUnsigned].
//
// A batch is signed like a call. The header Tccsaga-Signature is "key=ID, time=SECONDS,
// length=BYTES, body=SHA256, mac=HEX". The mac is HMAC-SHA256 over these lines, each followed
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
// A host verifies the head of a request before it reads the body, and then compares the
// body with the head. A proxy in between may reorder the query. It may change neither
// the path nor the body. A request without a valid signature is answered 401; its body
// is not read, and it does not count as a concurrent request.
//
// An answer to a verified request has the header Tccsaga-Answer, "mac=HEX": the
// HMAC with the same key over these lines:
//
//	tccsaga-2 answer
//	the mac of the request, in hexadecimal
//	the status
//	the SHA-256 of the body, in hexadecimal
//
// A signature is valid for one [HostConfig.Window] in total: for a tenth of it before
// the time in the signature, by the clock of the host, and for the rest after. A request
// that is sent again within the window has no second effect, because of the barrier.
// Clean keeps the rows of the barrier for longer than any recorded request is valid: it
// refuses an age below two windows and the timeouts of a call. The Name makes a
// signature valid for one service only, even if other services have the same keys.
//
// A DTM server cannot sign. A host that a DTM server calls needs AllowUnsigned, and only
// the network, or mutual TLS in front of the host, keeps others out. The limits of a
// host always bound its memory. But anybody who can reach an unsigned host can make
// calls, can use all its slots, and can read the barrier rows of a transaction whose gid and
// log id are known.
package remote
