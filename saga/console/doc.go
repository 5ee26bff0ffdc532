// Package console has web pages that show the transactions of an engine, and on which people act
// on them. It is an http.Handler for one's own server, with no other process and no other
// database:
//
//	c, err := console.New(engine.Operations(), console.Config{Authorize: authorize})
//	defer c.Close()
//	mux.Handle("/console/", c)                  // net/http
//	router.Any("/console/*path", gin.WrapH(c))  // gin
//
// # Pages
//
// The first page shows what needs a person, and charts of throughput, latency and failures. The
// list of transactions has filters, which are in the URL. The page of a transaction has its
// timeline, a sentence for each branch and its barrier row, the payloads, the acts that are
// possible, the SQL that reads the same, and an export as JSON. More pages show the kinds of
// branches, the running instances, the dead letters, prepared XA transactions in doubt, bulk
// actions and the audit log. Pages exist in English and Chinese, in a light and a dark style. They
// work without scripts; with scripts, they update by themselves.
//
// # Who may do what
//
// [Config.Authorize] connects the console with the authentication of the host application. It is
// asked with a [Verb] for each request, and returns the name for the audit log. Without it, the
// console serves reads to clients of the same machine only, and refuses all acts. With
// [Config.ReadOnly], it refuses all acts.
//
// An act needs a reason. The name and the reason are recorded in the same commit as the act. An
// act on a transaction is refused if its state has changed since the person saw it. There is no
// act that deletes a transaction or changes a state by hand. Posts of other sites are refused.
//
// # Cost
//
// Each page reads a bounded number of rows, along indexes. At most 4 requests read the database at
// once; others wait up to 3 seconds, and are then answered with the status 503. Pages that update
// by themselves share the overview for 2 seconds, and a hidden page does not ask. A request has 10
// seconds, and an act a minute. If the database does not answer, a page with the status 503 says
// so.
package console
