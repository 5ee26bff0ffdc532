// Package server serves the API of a DTM server on top of an embedded engine.
// Programs written for DTM, in any language, then run transactions without a DTM
// server:
//
//	api, err := server.New(engine, server.Config{Hosts: []string{"stock:8080"}})
//	err = (&http.Server{Addr: ":36789", Handler: api, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe()
//
// It serves TCC, sagas, messages and XA. For TCC and XA, a client opens a transaction with prepare. With
// TCC, it registers each branch before it calls the Try. With XA, the branch
// registers itself before it prepares its local transaction. The client decides with
// submit or abort. A saga has only submit, which gives all its steps: the engine calls
// the actions, and if one refuses, or at the timeout, the compensations in the reverse
// order. A message may have only submit too: each action is called until it succeeds. Or
// a client prepares it, commits a local transaction, and submits it, as DoAndSubmit of
// DTM's clients does; see below. The
// client gives the URLs of the branches, on hosts that the
// configuration allows. The branches keep a barrier of their own: DTM's, or that of
// package remote; an XA branch has the database's own.
//
// The API acts only on its own transactions. Their patterns in the log are
// [PatternTCC] and so on. Any other gid is not found. A prepare of a gid that the
// log has with another pattern is refused. Package tcc refuses the gids of the API.
//
// # Endpoints
//
// They are below /api/dtmsvr. The API answers 501 for a refused endpoint, and 404
// for an unknown one, with a text. The JSON-RPC and gRPC interfaces of a DTM server
// are not served.
//
//	GET   newGid             implemented
//	GET   version            implemented
//	GET   query              implemented  gid
//	GET   all                implemented  gid, status, transType, limit, position, createTimeStart, createTimeEnd
//	POST  prepare            implemented
//	POST  submit             implemented
//	POST  abort              implemented
//	POST  registerBranch     implemented
//	POST  registerTccBranch  implemented  the same, of old clients
//	POST  registerXaBranch   implemented  the same, of old clients
//	POST  resetNextCronTime  implemented  gid: its next calls are due now
//	any   resetCronTime      refused      pauses have a cap, embedded.Config.MaxBackoff
//	any   forceStop          refused      an operator can use Decide and Resolve of the engine
//	any   prepareWorkflow    refused      workflows run on a DTM server only
//	any   subscribe          refused      topics are in Config.Topics
//	any   unsubscribe        refused      the same
//	any   topic              refused      the same
//	any   scanKV             refused      the same
//	any   queryKV            refused      the same
//
// # What differs from a DTM server
//
//   - The API refuses the fields that are marked as refused below.
//   - Confirms and Cancels are called in parallel, not one after the other.
//   - A failed call is repeated with the engine's random backoff, if the transaction
//     has no retry_interval.
//   - A submit of a prepared message asks query_prepared; see below. A message with a
//     delay, which is in custom_data, is refused.
//   - The topics of messages are in [Config.Topics]. A step for one is an action with
//     the URL "topic://" and its name.
//   - A submit of the same saga or message again succeeds if it has
//     not failed. With other steps, or after a failure, it is answered 409.
//   - The steps of a concurrent saga are called by levels: those without a step
//     before them, then those that come after these only, and so on.
//   - If a saga has its timeout while no call is under way, its compensations are
//     called for all steps, also for those whose action was not called. The barrier
//     of the branch makes that an empty rollback.
//   - The rollback_reason of a saga is the message of the action's answer, or what
//     the engine says of it.
//   - With wait_result, submit and abort are answered 425 when a call has failed,
//     or after [Config.MaxWait]. The decision stands, and the calls continue.
//   - A submit of TCC or XA is refused if the gid was not prepared.
//   - Gids that differ only in upper and lower case are different in the API. In
//     the barrier of DTM's clients on MySQL they are the same: do not use both. A
//     gid or branch_id with a semicolon is refused, because DTM's clients remove
//     semicolons.
//   - A transaction has at most [saga.MaxBranches] branches, and the configuration
//     limits its data. With branch_headers, request_timeout or retry_interval, TCC
//     and XA have one branch less. All URLs of a branch are below the same
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
//   - The answer to all is in the order of the gids.
//
// # Prepared messages
//
// A message is prepared with a query_prepared, which says whether the local transaction of
// the client is committed. Only its answer decides:
//
//	GET query_prepared?gid=...&trans_type=msg&branch_id=00&op=msg
//
//	answer                    the message is
//	200, as of a branch       delivered: its actions are called until they succeed
//	409, or the word FAILURE  failed: no action is called
//	anything else, or none    undecided: it is asked again
//
// After an answer of 409, the local transaction must not be committed any more. The barrier of
// DTM's clients makes sure of that.
//
// At timeout_to_fail after the prepare, query_prepared is asked, and then again, for ever, as
// other failed calls are. After failed questions, the transaction is raised to attention.
// Submit and abort ask at once:
//
//	answer      submit         abort
//	committed   200            409, and the message is delivered
//	not         409            200
//	none        500, repeat    500, repeat
//
// So a submit is not taken at its word, as a DTM server does: a client that submits and has
// not committed delivers nothing. The steps in a submit have to be those of the prepare, or be
// left out. A topic has the subscribers that it had at the prepare; if the configuration has
// changed them since, leave the steps out, or wait for the timeout.
// A prepared message has one action less than [saga.MaxBranches].
//
// # Fields
//
// A field is implemented, refused or ignored. A refused field is answered with
// status 400 and its name, unless it is empty, 0 or false. An ignored field has no
// meaning on a DTM server either. Fields that no DTM server knows are
// ignored too. A field that is there twice, or in another case, such as GID, is
// refused.
//
//	field               tcc          saga         msg          xa
//	gid                 implemented  implemented  implemented  implemented
//	trans_type          implemented  implemented  implemented  implemented
//	protocol            implemented  implemented  implemented  implemented
//	timeout_to_fail     implemented  implemented  implemented  implemented
//	wait_result         implemented  implemented  implemented  implemented
//	request_timeout     implemented  implemented  implemented  implemented
//	retry_interval      implemented  implemented  implemented  implemented
//	branch_headers      implemented  implemented  implemented  implemented
//	concurrent          implemented  implemented  implemented  implemented
//	rollback_reason     implemented  refused      implemented  implemented
//	branch_id           implemented  refused      refused      implemented
//	data                implemented  refused      refused      refused
//	confirm             implemented  refused      refused      refused
//	cancel              implemented  refused      refused      refused
//	url                 refused      refused      refused      implemented
//	steps               refused      implemented  implemented  refused
//	payloads            refused      implemented  implemented  refused
//	custom_data         refused      implemented  refused      refused
//	retry_limit         refused      implemented  refused      refused
//	query_prepared      refused      refused      implemented  refused
//	retry_count         refused      refused      refused      refused
//	req_extra           refused      refused      refused      refused
//	result              refused      refused      refused      refused
//	op                  refused      refused      refused      refused
//	sync                refused      refused      refused      refused
//	try                 ignored      ignored      ignored      ignored
//	status              ignored      ignored      ignored      ignored
//	sub_type            ignored      ignored      ignored      ignored
//	id                  ignored      ignored      ignored      ignored
//	options             ignored      ignored      ignored      ignored
//	owner               ignored      ignored      ignored      ignored
//	ext_data            ignored      ignored      ignored      ignored
//	create_time         ignored      ignored      ignored      ignored
//	update_time         ignored      ignored      ignored      ignored
//	finish_time         ignored      ignored      ignored      ignored
//	rollback_time       ignored      ignored      ignored      ignored
//	next_cron_interval  ignored      ignored      ignored      ignored
//	next_cron_time      ignored      ignored      ignored      ignored
//
// What they mean:
//
//   - gid: printable ASCII without space, slash and semicolon.
//   - protocol: http, or empty. Others are refused.
//   - timeout_to_fail: seconds, given to prepare, or to submit of a saga; 0 is 35,
//     and no limit for a saga. [Config.MaxTimeout] limits it. A prepared message does
//     not fail then, but is asked.
//   - wait_result: of submit and abort. It makes them wait for the end.
//   - request_timeout: seconds. It limits each call of a branch. The
//     embedded.Config.CallTimeout limits it too.
//   - branch_headers: headers of each call of a branch: at most 32, with 4 KiB.
//     Headers of the connection, such as Host, are refused.
//   - retry_interval: seconds. The pause after a failed call is twice as long at first,
//     and doubles with each failed attempt, up to one hour, as on a DTM server. After
//     an answer that the call has not ended, it is the retry_interval. embedded.Limits still apply.
//   - retry_limit: how often an action is repeated, each on its own, before the saga
//     fails. Without it, until the timeout.
//   - concurrent: of a saga, in custom_data or beside it; of a message, beside it. TCC and XA always call
//     their branches in parallel.
//   - query_prepared: a URL on [Config.Hosts], given to prepare. A submit of a message that
//     was not prepared does not use it.
//   - custom_data: of a saga, the fields concurrent and orders. Others are refused.
//   - steps: each has an action, and a compensate of a saga. The payload has the same
//     place in payloads, or it is data in the step.
//   - data: [Config.MaxData] limits it.
//   - confirm, cancel, url: [Config.Hosts] limits them.
//   - branch_headers, request_timeout and retry_interval of TCC and XA: they are
//     given to prepare. The questions of a prepared message have those of the prepare.
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
// "dtm-none". The actions of sagas and messages have kinds of their own, which begin with "dtma"
// instead of "dtm", and the query_prepared too, with "dtmq". Keep an entry as long as the log has unfinished transactions with its
// kind.
//
// # Security
//
// With [Config.Credentials], each request needs a bearer token, or a user and a
// password; any other request is answered 401. A credential may be for reading
// only, or for the gids with a prefix; each client may then decide only its own
// transactions. Who may use the API can make it call any URL below an entry of
// [Config.Hosts].
//
// Without credentials, the API does not authenticate its clients; neither does a
// DTM server. Then put it behind a proxy that does, or on a network where every
// program may use it. Each client can decide the transactions of every other
// client. With [Config.GIDPrefix], clients cannot use the gids of programs that use
// the engine without the API.
//
// Branches with branches of their own, and XA branches, call the API too. They need
// a credential, like the client.
//
// The API refuses requests that a browser sends for another site, and bodies that
// are not application/json. It limits requests in bytes, time and number. It does
// not limit the time to send headers, or idle connections: set ReadHeaderTimeout
// and IdleTimeout of the [http.Server]. It ignores the Host header.
//
// An internal error is written to [Config.Logger]. The client gets an id that
// finds the log line.
package server
