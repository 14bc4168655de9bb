//! What events of iCalendar open.
