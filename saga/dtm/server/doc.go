// Package server serves the API of a DTM server on top of an embedded engine.
// Programs written for DTM, in any language, then run transactions without a DTM
// server:
//
//	api, err := server.New(engine, server.Config{Hosts: []string{"stock:8080"}})
//	err = (&http.Server{Addr: ":36789", Handler: api, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe()
//
// It serves TCC: newGid, prepare, registerBranch, submit, abort, query and
// version, below /api/dtmsvr. A client opens a transaction with prepare, registers
// each branch before it calls the Try, and decides with submit or abort. The
// client gives the URLs of the branches, on hosts that the configuration allows.
// The branches keep a barrier of their own: DTM's, or that of package remote.
//
// The API acts only on transactions that were prepared through it. Their pattern
// in the log is [Pattern]. Any other gid is not found. A prepare of a gid that the
// log has with another pattern is refused. Package tcc refuses the gids of the API.
//
// # What differs from a DTM server
//
//   - The API refuses other patterns than TCC, and the fields that are marked as
//     refused below. For an unknown endpoint it answers 404 with a text that names
//     the endpoint.
//   - Confirms and Cancels are called in parallel, not one after the other.
//   - With wait_result, submit and abort are answered 425 when a call has failed,
//     or after [Config.MaxWait]. The decision stands, and the calls continue.
//   - A submit of a gid that was not prepared is refused.
//   - Gids that differ only in upper and lower case are different in the API. In
//     the barrier of DTM's clients on MySQL they are the same: do not use both. A
//     gid or branch_id with a semicolon is refused, because DTM's clients remove
//     semicolons.
//   - A transaction has at most [saga.MaxBranches] branches, and the configuration
//     limits its data. The confirm and cancel URLs of a branch are below the same
//     entry of [Config.Hosts]. Their queries have none of the parameters gid,
//     trans_type, branch_id, op and caller; other parameters are sent as they are.
//   - A rollback_reason is cut to 1,000 characters.
//   - A 200 of a branch counts as success only if its body is empty, or the word
//     SUCCESS, or null, or a JSON object without an error and without another
//     dtm_result. As on a DTM server, 425 or the word ONGOING in the body means
//     that the call has not ended. 409 or the word FAILURE means that the branch
//     refuses the call; a Confirm or Cancel is then repeated.
//   - The answer to a query has at most 1 MiB of data. The branches beyond that
//     have "bin_data": null, and "branches_without_data" is their number.
//
// # Fields
//
// A field is implemented, refused or ignored. A refused field is answered with
// status 400 and its name, unless it is empty, 0 or false. An ignored field has no
// meaning for TCC on a DTM server either. Fields that no DTM server knows are
// ignored too. A field that is there twice, or in another case, such as GID, is
// refused.
//
//	gid                 implemented  printable ASCII without space, slash and semicolon
//	trans_type          implemented  tcc only
//	protocol            implemented  http only, or empty
//	timeout_to_fail     implemented  by prepare: seconds; 0 is 35; Config.MaxTimeout
//	wait_result         implemented  by submit and abort
//	rollback_reason     implemented  by abort
//	branch_id           implemented  by registerBranch
//	data                implemented  by registerBranch: Config.MaxData
//	confirm             implemented  by registerBranch: Config.Hosts
//	cancel              implemented  by registerBranch: Config.Hosts
//	request_timeout     refused      embedded.Config.CallTimeout limits a call
//	retry_interval      refused      embedded.Config.MinBackoff and MaxBackoff control retries
//	retry_limit         refused      a Confirm or Cancel is repeated until it succeeds
//	retry_count         refused      the same
//	concurrent          refused      Confirms and Cancels are always called in parallel
//	branch_headers      refused
//	custom_data         refused
//	query_prepared      refused      of messages and workflows
//	payloads            refused      of messages and sagas
//	steps               refused      of messages and sagas
//	req_extra           refused      of workflows
//	result              refused      of workflows
//	url                 refused      of XA
//	op                  refused      of workflows
//	sync                refused      of workflows
//	try                 ignored      the client calls it itself
//	status              ignored      the server sets it, like the rest
//	sub_type            ignored
//	id                  ignored
//	options             ignored
//	owner               ignored
//	ext_data            ignored
//	create_time         ignored
//	update_time         ignored
//	finish_time         ignored
//	rollback_time       ignored
//	next_cron_interval  ignored
//	next_cron_time      ignored
//
// # Limits per host
//
// Each entry of [Config.Hosts] is a kind of branch. So embedded.Limits and an
// operator's pause apply to each entry separately, and a service that is down does
// not delay the others. The kind is "dtm." and the entry, with the host in lower
// case. Characters other than letters, digits, dots and dashes become an underscore
// and two hexadecimal digits: the kind of "stock:8080" is "dtm.stock_3a8080". If
// that has more than 64 characters, the kind is "dtm-" and the first 20 bytes of
// the entry's SHA-256 in hexadecimal. The kind of branches without any URL is
// "dtm-none". Keep an entry as long as the log has unfinished transactions with its
// kind.
//
// # Security
//
// The API does not authenticate its clients; neither does a DTM server. Put it
// behind a proxy that does, or on a network where every program may use it. Each
// client can decide the transactions of every other client. With
// [Config.GIDPrefix], clients cannot use the gids of programs that use the engine
// without the API.
//
// The API refuses requests that a browser sends for another site, and bodies that
// are not application/json. It limits requests in bytes, time and number. It does
// not limit the time to send headers, or idle connections: set ReadHeaderTimeout
// and IdleTimeout of the [http.Server]. It ignores the Host header.
//
// An internal error is written to [Config.Logger]. The client gets an id that
// finds the log line.
package server
