"""The office: worlds of the tasks of `thinksmith.problems.office`, and two scripted engines that play in them."""
