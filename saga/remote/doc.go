// Package remote lets a transaction have branches in other services, over HTTP.
//
// A service that has branches registers them with a [Host], in its own database,
// and mounts it. The service that runs the transactions registers their kinds
// with its engine, and with a [Service] that says where they are:
//
//	stock, err := remote.NewService("https://stock.example/branches", remote.ServiceConfig{Keys: keys})
//	err = tcc.RegisterRemote[Lock](orch, stock)
//
// A plan may mix branches of the engine's own database, of other databases, and
// of other services.
//
// # On the wire
//
// The format is DTM's HTTP convention, so that one hosted branch serves an
// embedded orchestrator and a DTM server alike:
//
//	POST {base}/{kind}?gid=...&trans_type=tcc&branch_id=01&op=try
//
// The body is the payload, in JSON.
//
//	200            the call is done, or was done before
//	409            the branch says no, or was cancelled before; to a Try only
//	425            the call is under way, or nobody knows how it went
//	5xx            it failed and may be repeated
//	400, 401, 404, it is no call that this host can make
//	405, 413
//
// # What can get lost
//
// The barrier is in the database of the host. It makes every order of calls safe:
// repeated ones, those whose reply was lost, a Cancel without a Try, and a Try
// that comes after its Cancel. A Try whose reply is lost is therefore sent again,
// and if there is still no answer, the transaction is cancelled: the Cancel gives
// back what the Try may have reserved, or keeps it from reserving when it comes at
// last. A Confirm or Cancel is repeated until it is answered with 200.
//
// # Who may call
//
// With [HostConfig.Keys], a host refuses requests that are not signed with one of
// them: HMAC-SHA256 over time, method, path, query and body, in the header
// Tccsaga-Signature. Use it wherever anybody else can reach the port, and TLS,
// which is the [net/http.Server]'s and the [net/http.Client]'s matter, wherever
// anybody can listen. A signature holds within [HostConfig.Window] of its time;
// whoever repeats a request within it achieves nothing, because the barrier knows
// it. It does not name the host, whose name a proxy may change: give services
// with the same paths keys of their own, so that a request to one is none to
// another.
//
// A DTM server cannot sign. A host that one calls has no keys, and only the
// network, or mutual TLS in front of it, keeps others out.
package remote
