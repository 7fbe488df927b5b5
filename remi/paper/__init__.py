"""Floor 4: the paper. Every experiment, figure, table, claim and page that `make paper` makes, with the extra `paper`."""
