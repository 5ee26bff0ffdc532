// Package server serves the API of a DTM server on top of an embedded
// orchestrator, so that programs written for DTM, in any language, run
// transactions without a DTM server:
//
//	api, err := server.New(orch, server.Config{Hosts: []string{"stock:8080"}})
//	err = (&http.Server{Addr: ":36789", Handler: api, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe()
//
// It serves TCC: newGid, prepare, registerBranch, submit, abort, query and
// version, below /api/dtmsvr. A client opens a transaction with prepare, tells of
// each branch before it tries it, and decides with submit or abort. The branches
// are wherever the client says, at hosts that the configuration allows, and keep
// a barrier of their own: DTM's, or that of package remote.
//
// The API acts only on transactions that were prepared through it, which have the
// pattern [Pattern] in the log. Any other gid is not found, and prepare refuses a
// gid that the log has with another pattern. Package tcc refuses the gids of the
// API.
//
// # What differs from a DTM server
//
//   - Other patterns than TCC are refused, and so are the fields below that are
//     not supported. An endpoint that is not served is answered 404 with a text
//     that names it.
//   - Confirms and Cancels are called in parallel, not one after the other.
//   - With wait_result, submit and abort are answered 425 when a call has failed,
//     or after [Config.MaxWait]; the decision stands, and the calls go on.
//   - A submit of a gid that nobody has prepared is refused.
//   - Gids that differ only in the case of their letters are different here, and
//     the same in the barrier of DTM's clients on MySQL: do not use both. A gid or
//     branch_id with a semicolon is refused: DTM's clients take it out.
//   - A transaction has at most [saga.MaxBranches] branches, and its data is
//     bounded by the configuration. The confirm and cancel URLs of a branch are
//     below the same entry of [Config.Hosts], and their queries hold none of gid,
//     trans_type, branch_id, op and caller; other parameters are sent as they are.
//   - A rollback_reason is cut to 1,000 characters.
//   - A 200 of a branch counts as success only if its body is empty, or the word
//     SUCCESS, or null, or a JSON object that holds no error and no other
//     dtm_result. As on a DTM server, 425 or the word ONGOING in the body is not
//     yet at the end, and 409 or the word FAILURE is a refusal, after which a
//     Confirm or Cancel is repeated.
//   - The answer to a query holds at most 1 MiB of data. The branches beyond that
//     have "bin_data": null, and "branches_without_data" is their number.
//
// # Fields
//
// A field is implemented; or it is refused, with status 400 and its name, unless
// it is empty, 0 or false; or it means nothing for TCC on a DTM server either, and
// is ignored. Fields that no DTM server knows are ignored, too. A field that is
// there twice, or in other letters, such as GID, is refused.
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
//	request_timeout     refused      embedded.Config.CallTimeout bounds a call
//	retry_interval      refused      embedded.Config.MinBackoff and MaxBackoff say when calls are repeated
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
// Each entry of [Config.Hosts] is a kind of branch, so that [embedded.Limits] and an
// operator's pause are for each on its own, and a service that is down holds up
// no other. The kind is "dtm." and the entry, with the host in small letters;
// characters other than letters, digits, dots and dashes are an underscore and two
// hexadecimal digits, so that "stock:8080" is "dtm.stock_3a8080". If that has more
// than 64 characters, the kind is "dtm-" and the first 20 bytes of the entry's
// SHA-256 in hexadecimal. Branches without any URL are "dtm-none". Keep an entry
// as long as the log has unfinished transactions of its kind.
//
// # Security
//
// The API does not authenticate its clients, as a DTM server does not: put it
// behind a proxy that does, or on a network where every program may use it. Each
// client can decide the transactions of every other. With [Config.GIDPrefix], no
// client can take the gids of programs that use the orchestrator without the API.
//
// The API refuses the requests that a browser sends for another site, and bodies
// that are not application/json. It bounds requests in bytes, time and number. It
// does not bound the time that headers take, or idle connections: set
// ReadHeaderTimeout and IdleTimeout of the [http.Server]. It does not look at the
// Host header.
//
// An error of the server itself is written to [Config.Logger]. The client gets an
// id by which the line is found.
package server
