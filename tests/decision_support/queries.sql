-- 1. What each service and condition brought in, by legs that left before the last quarter
select c.service, l.condition, count(*) as legs, sum(l.weight_kg) as kg, sum(l.fee) as fees, sum(l.fee - l.toll) as net, avg(l.distance_km) as km, avg(l.fee) as fee
from consignments c join legs l using (consignment_id) where l.departed < timestamp '2023-10-01' group by c.service, l.condition order by c.service, l.condition

-- 2. The cheapest vehicles of each region that can carry a pallet
select r.name, d.town, v.plate, v.kind, v.km_cost from regions r join depots d on d.region_id = r.region_id join vehicles v on v.depot_id = d.depot_id
where v.payload_kg >= 1000 and v.km_cost = (select min(w.km_cost) from vehicles w join depots e on e.depot_id = w.depot_id where e.region_id = r.region_id and w.payload_kg >= 1000) order by r.name, v.plate

-- 3. The ten undelivered consignments of one trade that have cost their senders most
select c.consignment_id, c.due, s.name, sum(l.fee) as fees from senders s join consignments c on c.sender_id = s.sender_id join legs l on l.consignment_id = c.consignment_id
where s.trade = 'tools' and c.delivered is null group by c.consignment_id, c.due, s.name order by fees desc, c.consignment_id limit 10

-- 4. Consignments of a half-year with a damaged leg, by service
select s.name, count(*) as consignments, sum(c.pieces) as pieces from consignments c join services s on s.service = c.service
where c.accepted >= date '2022-01-01' and c.accepted < date '2022-07-01' and exists (select from legs l where l.consignment_id = c.consignment_id and l.condition in ('D', 'L')) group by s.name order by s.name

-- 5. Fees of local traffic: sender, first depot and last depot in one region
select r.name, count(distinct s.sender_id) as senders, sum(l.fee) as fees from regions r join senders s on s.region_id = r.region_id join consignments c on c.sender_id = s.sender_id
join depots a on a.depot_id = c.from_depot and a.region_id = r.region_id join depots b on b.depot_id = c.to_depot and b.region_id = r.region_id join legs l on l.consignment_id = c.consignment_id
group by r.name order by fees desc, r.name

-- 6. What a tenth more toll on short legs would have cost in a year
select sum(toll) as tolls, sum(toll * 0.1) as more, count(*) as legs from legs where departed >= timestamp '2022-01-01' and departed < timestamp '2023-01-01' and distance_km between 50 and 250 and toll > 0

-- 7. Traffic between north and south by year, in both directions
select x.zone as origin, y.zone as destination, extract(year from c.accepted)::int as year, count(*) as consignments, sum(f.fees) as fees
from consignments c join depots a on a.depot_id = c.from_depot join regions x on x.region_id = a.region_id join depots b on b.depot_id = c.to_depot join regions y on y.region_id = b.region_id
join (select consignment_id, sum(fee) as fees from legs group by consignment_id) f on f.consignment_id = c.consignment_id
where (x.zone = 'north' and y.zone = 'south') or (x.zone = 'south' and y.zone = 'north') group by 1, 2, 3 order by 1, 2, 3

-- 8. Each zone's share of all fees, by year, with totals
select r.zone, extract(year from l.departed)::int as year, sum(l.fee) as fees, round(100 * sum(l.fee) / (select sum(fee) from legs), 3) as share, grouping(r.zone, extract(year from l.departed)::int) as level
from legs l join depots d on d.depot_id = l.from_depot join regions r on r.region_id = d.region_id group by cube (r.zone, extract(year from l.departed)::int) order by r.zone nulls last, year nulls last, level

-- 9. Profit by kind of vehicle and year
select v.kind, extract(year from l.departed)::int as year, sum(l.fee - l.toll - l.distance_km * v.km_cost) as profit, count(distinct v.plate) as vehicles
from legs l join vehicles v on v.plate = l.plate group by v.kind, 2 order by v.kind, year desc

-- 10. The twenty senders with most money asked for and not paid, and what they send
select s.sender_id, s.name, s.credit, r.name as region, sum(k.asked - coalesce(k.paid, 0)) as open, count(*) as claims, (select count(*) from consignments c where c.sender_id = s.sender_id) as consignments
from senders s join claims k on k.sender_id = s.sender_id join regions r on r.region_id = s.region_id where k.paid is null or k.paid < k.asked
group by s.sender_id, s.name, s.credit, r.name order by open desc, s.sender_id limit 20

-- 11. Vehicles that have paid more than half a percent of all tolls of their zone
with tolls as (select v.plate, r.zone, sum(l.toll) as paid from legs l join vehicles v on v.plate = l.plate join depots d on d.depot_id = v.depot_id join regions r on r.region_id = d.region_id group by v.plate, r.zone)
select t.zone, t.plate, t.paid from tolls t where t.paid > (select 0.005 * sum(u.paid) from tolls u where u.zone = t.zone) order by t.zone, t.paid desc, t.plate

-- 12. How late, by service: a table of counts
select v.name, count(*) filter (where l.days = 1) as one_day, count(*) filter (where l.days = 2) as two_days, sum(case when l.days > 2 then 1 else 0 end) as longer,
sum(case when d.docks < 10 then 1 else 0 end) as to_small_depots, max(l.days) as most from late l join services v on v.service = l.service join depots d on d.depot_id = l.to_depot group by v.name order by v.name

-- 13. How many senders have sent how much
select sent, count(*) as senders, sum(sent) as consignments from (select s.sender_id, count(c.consignment_id) as sent from senders s left join consignments c on c.sender_id = s.sender_id and c.remark not like '%urgent%' group by s.sender_id) as x
group by sent order by senders desc, sent desc

-- 14. What part of a month's fees was express
select date_trunc('month', l.departed)::date as month, round(100.00 * sum(case when c.service = 'EX' then l.fee else 0 end) / sum(l.fee), 2) as express, sum(sum(l.fee)) over (order by date_trunc('month', l.departed)::date) as fees_so_far
from legs l join consignments c on c.consignment_id = l.consignment_id group by 1 order by 1

-- 15. The three busiest depots of each month of 2023, and their change against the month before
select * from (select m.month, d.town, m.kg, m.fees, rank() over (partition by m.month order by m.kg desc, d.depot_id) as place, m.kg - lag(m.kg) over (partition by d.depot_id order by m.month) as change from depot_months m join depots d on d.depot_id = m.depot_id) as x
where month >= date '2023-01-01' and place <= 3 order by month, place

-- 16. Senders by trade and region that have never claimed anything
select coalesce(s.trade, 'none') as trade, r.name, count(distinct s.sender_id) as senders from senders s join regions r on r.region_id = s.region_id join consignments c on c.sender_id = s.sender_id
where s.sender_id not in (select k.sender_id from claims k where k.asked > 50) and c.service <> 'PA' group by 1, 2 order by senders desc, trade, r.name

-- 17. Legs that were far lighter than their vehicle's average, and what they brought
select v.kind, count(*) as legs, round(sum(l.fee) / 12, 2) as monthly from legs l join vehicles v on v.plate = l.plate
where v.kind in ('van', 'lorry') and l.weight_kg < (select 0.2 * avg(m.weight_kg) from legs m where m.plate = l.plate) group by v.kind order by v.kind

-- 18. The heaviest consignments, all legs together, with the sender's rank among them
select c.consignment_id, s.name, c.accepted, sum(l.weight_kg) as kg, dense_rank() over (order by s.name) as sender_rank from senders s join consignments c on c.sender_id = s.sender_id join legs l on l.consignment_id = c.consignment_id
where c.consignment_id in (select consignment_id from legs group by consignment_id having sum(weight_kg) > 2500) group by c.consignment_id, s.name, c.accepted order by kg desc, c.consignment_id limit 50

-- 19. Fees of three kinds of work, described one by one
select sum(l.fee) as fees, count(*) as legs from legs l join vehicles v on v.plate = l.plate join consignments c on c.consignment_id = l.consignment_id
where (v.kind = 'bicycle' and l.distance_km < 100 and c.pieces <= 2) or (v.kind = 'van' and l.weight_kg between 5 and 40 and c.service = 'EX') or (v.kind = 'trailer' and c.service = 'PA' and c.pieces > 5)

-- 20. Senders of light consignments that went by heavy vehicles of the south
select s.name, s.joined from senders s where s.sender_id in (select c.sender_id from consignments c join legs l using (consignment_id) where l.plate in (select v.plate from vehicles v join depots d on d.depot_id = v.depot_id join regions r on r.region_id = d.region_id where r.zone = 'south' and v.payload_kg > 5000)
and l.weight_kg < 10) order by s.name

-- 21. Depots that damaged what no other depot on the way did
select d.town, count(*) as alone from depots d join legs l on l.from_depot = d.depot_id join consignments c on c.consignment_id = l.consignment_id
where l.condition = 'D' and exists (select from legs o where o.consignment_id = l.consignment_id and o.leg <> l.leg) and not exists (select from legs o where o.consignment_id = l.consignment_id and o.leg <> l.leg and o.condition = 'D')
group by d.town order by alone desc, d.town limit 15

-- 22. Senders of good credit, by the groups they belong to, that sent nothing in the last year
with recursive heads (sender_id, head) as (select sender_id, sender_id from senders where parent_id is null union all select s.sender_id, h.head from senders s join heads h on h.sender_id = s.parent_id)
select r.zone, s.trade, count(*) as senders, count(distinct h.head) as heads, sum(s.credit) as credit from senders s join heads h on h.sender_id = s.sender_id join regions r on r.region_id = s.region_id
where s.credit > (select avg(credit) from senders where credit > 0) and not exists (select from consignments c where c.sender_id = s.sender_id and c.accepted >= date '2023-01-01')
group by grouping sets ((r.zone, s.trade), (r.zone), ()) order by r.zone nulls last, s.trade nulls last, senders, credit
