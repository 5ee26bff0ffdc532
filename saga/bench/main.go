// Bench measures tccsaga beside the same work by hand, and beside a DTM server.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	dialect := flag.String("db", "mysql", "mysql, postgres or sqlite")
	callers := flag.String("callers", "1,16,64", "numbers of callers")
	names := flag.String("contenders", "raw,tccsaga,plain", "who takes part")
	article := flag.String("articles", "spread", "spread over 1,000 articles, or hot: always the same")
	length := flag.Duration("for", 2*time.Second, "length of each run")
	rounds := flag.Int("rounds", 1, "rounds")
	flag.Parse()
	if err := bench(context.Background(), *dialect, *callers, *names, *article, *length, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, dialect, callers, names, article string, length time.Duration, rounds int) error {
	sku := spread
	if article == "hot" {
		sku = hot
	}
	for range rounds {
		for _, text := range strings.Split(callers, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			for _, name := range strings.Split(names, ",") {
				db, err := openDatabase(ctx, dialect, fmt.Sprintf("bench_%d", time.Now().UnixNano()))
				if err != nil {
					return err
				}
				var c Contender
				switch name {
				case "raw":
					c = Raw{db}
				default:
					if c, err = newEmbedded(ctx, name, db); err != nil {
						return err
					}
				}
				f, err := run(ctx, c, db.counters, n, length, sku)
				if err != nil {
					return err
				}
				fmt.Printf("%-8s %-7s %4d callers %8.0f/s  p50 %8s  p99 %8s  %5.2f commits  %5.1f statements  %8s cpu  %5.0f allocs\n", dialect, f.Contender, n,
					f.PerSecond, f.P50.Round(10*time.Microsecond), f.P99.Round(10*time.Microsecond), f.Commits, f.Statements, f.ClientCPU.Round(time.Microsecond), f.Allocs)
				if err := c.Close(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
