package chaos

// fault is a kind of fault.
type fault int

// The faults.
const (
	workerKilled fault = iota
	workerKilledAtCommit
	workerPaused
	workerPausedAtCommit
	workerStopped
	mariaDBKilled
	natsKilled
	commitLost
	commitCut
	commitAnswerLost
	ackLost
	mariaDBCut
	natsCut
	mariaDBSlow
	natsSlow
	mariaDBSilent
	natsSilent
	gatewayUnavailable
	gatewayAnswerLost
	gatewaySlow
	hostKilled
	hostKilledAtCommit
	hostPaused
	hostRequestLost
	hostAnswerLost
	hostCut
	hostSlow
	hostSilent
)

func (f fault) String() string {
	return [...]string{
		workerKilled:         "worker killed",
		workerKilledAtCommit: "worker killed at a COMMIT",
		workerPaused:         "worker paused past its lease",
		workerPausedAtCommit: "worker paused at a COMMIT",
		workerStopped:        "worker stopped",
		mariaDBKilled:        "MariaDB killed",
		natsKilled:           "NATS killed",
		commitLost:           "connection cut before a COMMIT reaches MariaDB",
		commitCut:            "connection cut right after a COMMIT is sent",
		commitAnswerLost:     "answer to a COMMIT lost",
		ackLost:              "PubAck lost",
		mariaDBCut:           "connections to MariaDB cut",
		natsCut:              "connections to NATS cut",
		mariaDBSlow:          "MariaDB slow",
		natsSlow:             "NATS slow",
		mariaDBSilent:        "MariaDB silent",
		natsSilent:           "NATS silent",
		gatewayUnavailable:   "gateway answers 503",
		gatewayAnswerLost:    "gateway's answer lost",
		gatewaySlow:          "gateway slow",
		hostKilled:           "host killed",
		hostKilledAtCommit:   "host killed at a COMMIT",
		hostPaused:           "host paused",
		hostRequestLost:      "request to the host lost",
		hostAnswerLost:       "answer of the host lost",
		hostCut:              "connections to the host cut",
		hostSlow:             "host slow",
		hostSilent:           "host silent",
	}[f]
}

// faults says how often the nemesis injects each fault in a round, and how.
var faults = []struct {
	fault  fault
	times  int
	inject func(injection)
}{
	{workerKilled, 3, injection.killWorker},
	{workerKilledAtCommit, 3, injection.killAtCommit},
	{workerPaused, 3, injection.pauseWorker},
	{workerPausedAtCommit, 3, injection.pauseAtCommit},
	{workerStopped, 1, injection.stopWorker},
	{mariaDBKilled, 1, func(i injection) { i.killServer(mariaDBComponent, i.mariadb.process, i.mariadb.start) }},
	{natsKilled, 1, func(i injection) { i.killServer(natsComponent, i.broker.process, i.broker.start) }},
	{commitLost, 3, func(i injection) { i.intercept(i.worker.database, commit, action{cut: cutNow}) }},
	{commitCut, 4, func(i injection) { i.intercept(i.worker.database, commit, action{forward: true, cut: cutNow}) }},
	{commitAnswerLost, 4, func(i injection) { i.intercept(i.worker.database, commit, action{forward: true, cut: cutAtAnswer}) }},
	{ackLost, 4, func(i injection) { i.intercept(i.worker.nats, ack, action{cut: cutNow}) }},
	{mariaDBCut, 2, func(i injection) { i.cutConnections(i.worker.database) }},
	{natsCut, 2, func(i injection) { i.cutConnections(i.worker.nats) }},
	{mariaDBSlow, 1, func(i injection) { i.slowDown(i.worker.database) }},
	{natsSlow, 1, func(i injection) { i.slowDown(i.worker.nats) }},
	{mariaDBSilent, 1, func(i injection) { i.silence(i.worker.database) }},
	{natsSilent, 1, func(i injection) { i.silence(i.worker.nats) }},
	{gatewayUnavailable, 2, func(i injection) { i.gateway.inject(unavailable, i.noteForAll) }},
	{gatewayAnswerLost, 3, func(i injection) { i.gateway.inject(answerLost, i.noteForAll) }},
	{hostKilled, 2, atHost(injection.killWorker)},
	{hostKilledAtCommit, 3, atHost(injection.killAtCommit)},
	{hostPaused, 1, atHost(injection.pauseWorker)},
	{hostRequestLost, 2, func(i injection) { i.intercept(i.worker.host, request, action{cut: cutNow}) }},
	{hostAnswerLost, 3, func(i injection) { i.intercept(i.worker.host, request, action{forward: true, cut: cutAtAnswer}) }},
	{hostCut, 2, func(i injection) { i.cutConnections(i.worker.host) }},
	{hostSlow, 1, func(i injection) { i.slowDown(i.worker.host) }},
	{hostSilent, 1, func(i injection) { i.silence(i.worker.host) }},
	{gatewaySlow, 1, func(i injection) { i.gateway.inject(answerSlow, i.noteForAll) }},
}
