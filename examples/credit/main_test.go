package main

// The program as an example, so that its output is tested.
func Example() {
	main()
	// Output:
	// order-1 is confirmed
	// order-2 is cancelled: credit.hold: not enough credit
	// phones: 1 available, 0 locked, 1 sold
}
