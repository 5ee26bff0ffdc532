package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/nats-io/nats.go/jetstream"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Config configures a run.
type Config struct {
	For  time.Duration // how long there are faults
	Seed uint64        // of the orders and the faults
	Dir  string        // an empty folder with a short name, for data and output

	// HostKills, if it is not 0, kills the host so often, and injects no other fault: the books
	// are balanced after each.
	HostKills int
}

const (
	workers = 4
	clients = 96

	// endWithin is how long transactions and messages may take to end after the
	// last fault.
	endWithin = time.Minute
)

// run has the parts of a run.
type run struct {
	config    Config
	processes *processGroup
	mariadb   *mariadb
	broker    *broker
	gateway   *gateway
	workers   []*worker
	host      *worker
	histories histories
	engineDB  *sql.DB             // past the proxies
	serviceDB *sql.DB             // past the proxies
	hostDB    *sql.DB             // past the proxies
	js        jetstream.JetStream // past the proxies

	hostAddress string
	batches     atomic.Int64 // of calls, that were sent to the host
	nemesis     nemesis
}

// Run starts everything, lets clients order for Config.For while faults come, waits
// until everything has ended, and checks the rules. It returns an error if the run
// itself has failed, without a report; and if something has not ended, with the
// report. When ctx ends, the run ends without a report.
func Run(ctx context.Context, config Config) (*Report, error) {
	if !supported {
		return nil, fmt.Errorf("chaos: %w: it needs Linux, to pause processes and to end them with itself", errors.ErrUnsupported)
	}
	r := &run{config: config, processes: newProcessGroup(config.Dir)}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("chaos: starting: %w", err)
	}
	began := time.Now()
	if config.HostKills > 0 {
		return r.killHost(ctx)
	}
	injecting, cancel := context.WithTimeout(ctx, config.For)
	defer cancel()
	r.order(ctx, "c", func() { r.nemesis.run(injecting) })
	if ctx.Err() != nil {
		return nil, fmt.Errorf("chaos: ended before its time: %w", context.Cause(ctx))
	}
	report := &Report{seed: config.Seed, took: time.Since(began), faults: r.nemesis.counts, crashes: r.nemesis.crashes}
	if err := r.nemesis.err(); err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	for _, w := range r.programs() {
		report.starts += w.starts
	}
	ended := r.awaitEnd(ctx)
	report.batches = r.batches.Load()
	if err := r.check(ctx, report); err != nil {
		return nil, errors.Join(ended, err)
	}
	return report, ended
}

// programs are the workers and the host.
func (r *run) programs() []*worker { return append(slices.Clone(r.workers), r.host) }

// check reads the records, and applies the rules.
func (r *run) check(ctx context.Context, report *Report) error {
	records, err := read(ctx, r.engineDB, r.serviceDB, r.hostDB, r.js, r.gateway, &r.histories)
	if err != nil {
		return fmt.Errorf("chaos: reading the records: %w", err)
	}
	report.records, report.violations, report.details = records, records.check(), map[string]string{}
	for _, v := range report.violations {
		if report.details[v.GID] == "" && v.GID != "" && len(report.details) < maxDetails {
			report.details[v.GID] = r.details(ctx, v.GID)
		}
	}
	return nil
}

// order lets the clients order while faults come, and returns when the last of them has its
// answer. The names of the clients begin with name.
func (r *run) order(ctx context.Context, name string, faults func()) {
	source := rand.New(rand.NewPCG(r.config.Seed, uint64(len(r.histories.byGID))+1))
	var ordering atomic.Bool
	ordering.Store(true)
	var all sync.WaitGroup
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for n := range clients {
		c := &client{name: fmt.Sprintf("%s%d", name, n), seed: source.Uint64(), hostOnly: r.config.HostKills > 0,
			workers: r.workers, histories: &r.histories, ordering: &ordering}
		all.Go(func() { c.run(asking) })
	}
	faults()
	ordering.Store(false)
	late := time.AfterFunc(endWithin, giveUp)
	all.Wait()
	late.Stop()
}

// awaitEnd waits until all transactions and messages have ended, and stops the
// workers.
func (r *run) awaitEnd(ctx context.Context) error {
	err := r.awaitIdle(ctx)
	stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, w := range r.programs() {
		err = errors.Join(err, w.stop(stopping))
	}
	return err
}

// awaitIdle waits until all transactions and messages have ended.
func (r *run) awaitIdle(ctx context.Context) error {
	return eventually(ctx, endWithin, "all transactions and messages have ended", func() error { return ended(ctx, r.engineDB, r.js) })
}

// errUnfinished is returned while something is under way.
var errUnfinished = errors.New("unfinished")

// ended returns nil if all transactions and messages have ended.
func ended(ctx context.Context, db *sql.DB, js jetstream.JetStream) error {
	var open int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM saga_transactions WHERE state NOT IN ('confirmed', 'cancelled')").Scan(&open); err != nil {
		return err
	}
	var unpublished int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM saga_outbox_delayed").Scan(&unpublished); err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, stream, "effects")
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	if open > 0 || unpublished > 0 || info.NumPending > 0 || info.NumAckPending > 0 {
		return fmt.Errorf("%w: %d transactions, %d messages to publish, %d to handle, %d acknowledgements", errUnfinished, open, unpublished, info.NumPending, info.NumAckPending)
	}
	return nil
}

// open starts the servers and the workers.
func (r *run) open(ctx context.Context) (err error) {
	var program string
	var builds sync.WaitGroup
	var errs [3]error
	builds.Go(func() { program, errs[0] = buildWorker(ctx, r.config.Dir) })
	builds.Go(func() { r.mariadb, errs[1] = newMariaDB(ctx, r.processes) })
	builds.Go(func() { r.broker, errs[2] = newBroker(ctx, r.processes) })
	builds.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if r.gateway, err = newGateway(); err != nil {
		return err
	}
	if r.hostAddress, err = freeAddress(); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	if r.js, err = r.broker.connect(); err != nil {
		return err
	}
	// With so short a window, the broker takes a message a second time after its
	// PubAck is lost. So the inbox of the consumer has to recognize it.
	if _, err := r.js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".>"}, Duplicates: 100 * time.Millisecond}); err != nil {
		return err
	}
	source := rand.New(rand.NewPCG(r.config.Seed, 2))
	var starts sync.WaitGroup
	started := make([]error, workers+1)
	for n := range workers {
		w, err := newWorker(r, n, program, rand.New(rand.NewPCG(source.Uint64(), source.Uint64())))
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
		starts.Go(func() { started[n] = w.start(ctx) })
	}
	host := rand.New(rand.NewPCG(source.Uint64(), source.Uint64()))
	if r.host, err = newHost(r, program, host); err != nil {
		return err
	}
	starts.Go(func() { started[workers] = r.host.start(ctx) })
	starts.Wait()
	r.nemesis = nemesis{rng: source, workers: r.workers, host: r.host, mariadb: r.mariadb, broker: r.broker, gateway: r.gateway, engineDB: r.engineDB, counts: map[fault]int{}}
	return errors.Join(started...)
}

// fill creates the databases, their tables, and what is in them.
func (r *run) fill(ctx context.Context) (err error) {
	if err := r.mariadb.createDatabases(ctx); err != nil {
		return err
	}
	const branchEffects = "CREATE TABLE branch_effects (id BIGINT AUTO_INCREMENT PRIMARY KEY, gid VARCHAR(128) NOT NULL, branch_id VARCHAR(32) NOT NULL, operation VARCHAR(16) NOT NULL, at DATETIME(6) NOT NULL)"
	const accountsTable = "CREATE TABLE accounts (id VARCHAR(64) PRIMARY KEY, free BIGINT NOT NULL, held BIGINT NOT NULL, spent BIGINT NOT NULL)"
	var engine, service, host *gorm.DB
	if r.engineDB, engine, err = r.database(ctx, engineDB, branchEffects,
		"CREATE TABLE local_orders (gid VARCHAR(128) NOT NULL PRIMARY KEY)"); err != nil {
		return err
	}
	if r.serviceDB, service, err = r.database(ctx, serviceDB, branchEffects,
		accountsTable,
		// It has no primary key, so that a message that is handled twice is in it twice.
		"CREATE TABLE handled (message_id VARCHAR(200) NOT NULL)"); err != nil {
		return err
	}
	if r.hostDB, host, err = r.database(ctx, hostDB, branchEffects, accountsTable); err != nil {
		return err
	}
	shelf := stock.New(engine)
	err = shelf.Put(ctx, scarce, scarcePieces)
	for n := range articles {
		err = errors.Join(err, shelf.Put(ctx, article(n), plenty))
	}
	for n := range accounts {
		const insert = "INSERT INTO accounts VALUES (?, ?, 0, 0)"
		err = errors.Join(err, service.WithContext(ctx).Exec(insert, account(n), plenty).Error,
			host.WithContext(ctx).Exec(insert, hall(n), plenty).Error, host.WithContext(ctx).Exec(insert, show(n), plenty).Error)
	}
	return err
}

func (r *run) database(ctx context.Context, name string, statements ...string) (*sql.DB, *gorm.DB, error) {
	config, err := mysql.ParseDSN(dsn(r.mariadb.address, name, true))
	if err != nil {
		return nil, nil, err
	}
	config.ParseTime, config.Logger = true, &mysql.NopLogger{} // it would log each time the server is killed
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, nil, err
	}
	pool := sql.OpenDB(connector)
	db, err := gorm.Open(gormmysql.New(gormmysql.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	if err := schema.Migrate(ctx, db); err != nil {
		return nil, nil, err
	}
	for _, statement := range statements {
		if err := db.WithContext(ctx).Exec(statement).Error; err != nil {
			return nil, nil, err
		}
	}
	return pool, db, nil
}

// close ends every process.
func (r *run) close() {
	for _, w := range r.programs() {
		if w != nil {
			w.close()
		}
	}
	if r.js != nil {
		r.js.Conn().Close()
	}
	for _, db := range []*sql.DB{r.engineDB, r.serviceDB, r.hostDB} {
		if db != nil {
			db.Close()
		}
	}
	if r.gateway != nil {
		r.gateway.close()
	}
	if r.mariadb != nil {
		r.mariadb.kill()
	}
	if r.broker != nil {
		r.broker.kill()
	}
	r.processes.close()
}
