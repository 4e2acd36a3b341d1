-- Whoever caches rows of a view must know to which run of positions a position belongs. The term is raised
-- whenever a projector takes the view over, another build comes into use, or rows change without the position
-- moving (a key released from quarantine), in the transaction that does so; signals carry it. Rows read under
-- one term say nothing about another.
alter table views add column term bigint not null default 0;
